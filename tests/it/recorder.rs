//! A proxy before moto (and before the fake of Logs Insights) that writes down every call and breaks the ones it is told to.

use crate::wire::{Again, Answer, Listener, Request, Signature, send};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Result, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Stands for all operations.
pub(crate) const ALL: &str = "*";
/// What `X-Amz-Target` begins with, and the name by which the service is signed for.
const TARGETS: [(&str, &str); 7] = [
    ("AmazonMemoryDB", "memorydb"),
    ("AmazonAthena", "athena"),
    ("Logs_20140328", "logs"),
    ("AmazonSSM", "ssm"),
    ("secretsmanager", "secretsmanager"),
    ("RedshiftServerless", "redshift-serverless"),
    ("RedshiftData", "redshift-data"),
];
/// The `Version` of each service of the query protocol.
const VERSIONS: [(&str, &str); 4] =
    [("2015-02-02", "elasticache"), ("2011-06-15", "sts"), ("2012-12-01", "redshift"), ("2014-10-31", "rds")];
const HTML: &str = "<html><body><h1>Something is wrong</h1></body></html>";

/// What came.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// As the signature has to name it: `athena`. What is unknown here stands as it came.
    pub(crate) service: String,
    /// `StartQueryExecution`; of a request that names none, such as one for a file, `GET /path`.
    pub(crate) operation: String,
    pub(crate) signature: Option<Signature>,
    pub(crate) at: Instant,
    pub(crate) request: Request,
}

/// What happens to a call instead of its answer. Where it is not said, the call does not reach the server behind.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Too many calls, as each protocol says it.
    Throttle,
    /// This key may not do that.
    Denied,
    /// The temporary key is over.
    Expired,
    /// This status with a page for people.
    Status(u16),
    /// 200 without a body.
    Empty,
    /// 200 with a body that is neither text nor JSON.
    Garbage,
    /// The true answer, of which the second half does not come. The call has been carried out.
    Truncated,
    /// RST instead of an answer.
    Reset,
    /// No answer until the client goes away.
    Hang,
    /// The true answer, so much later.
    Slow(Duration),
    /// 307 to this address.
    Redirect(String),
    /// 200 and the beginning of a JSON text that never ends.
    Endless,
    /// This answer.
    Canned(Answer),
    /// The true answer, changed: for what moto never says, such as FAILED or bytes that were scanned.
    Edited(fn(&mut Value)),
}

/// The proxy. Dropping it closes every connection.
#[derive(Debug)]
pub(crate) struct Recorder {
    listener: Listener,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    upstream: u16,
    /// Operations that another server answers.
    routes: Mutex<BTreeMap<String, u16>>,
    calls: Mutex<Vec<Call>>,
    faults: Mutex<Vec<Active>>,
}

#[derive(Debug)]
struct Active {
    operation: String,
    left: usize,
    fault: Fault,
}

impl Recorder {
    /// Listens on a free port and hands everything to this one.
    pub(crate) fn start(upstream: u16) -> Self {
        let state = Arc::new(State { upstream, ..State::default() });
        let shared = Arc::clone(&state);
        Self { listener: Listener::start(move |request, stream| shared.serve(request, stream)), state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.port()
    }

    /// For `AWS_ENDPOINT_URL`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// Hands these operations to another port.
    pub(crate) fn route(&self, operations: &[&str], port: u16) {
        self.state.routes.lock().unwrap().extend(operations.iter().map(|name| ((*name).to_owned(), port)));
    }

    /// Everything that came, in its order, also what was broken.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap().clone()
    }

    /// How often an operation was called; [`ALL`] for all.
    pub(crate) fn count(&self, operation: &str) -> usize {
        let calls = self.state.calls.lock().unwrap();
        calls.iter().filter(|call| operation == ALL || call.operation == operation).count()
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.listener.open()
    }

    /// Breaks every call of an operation, or of [`ALL`], until `calm`. The latest word on an operation counts.
    pub(crate) fn fail(&self, operation: &str, fault: Fault) {
        self.fail_times(operation, usize::MAX, fault);
    }

    /// Breaks the next `times` calls of an operation, or of [`ALL`].
    pub(crate) fn fail_times(&self, operation: &str, times: usize, fault: Fault) {
        let active = Active { operation: operation.to_owned(), left: times, fault };
        self.state.faults.lock().unwrap().push(active);
    }

    /// Breaks nothing any more. What hangs goes on hanging.
    pub(crate) fn calm(&self) {
        self.state.faults.lock().unwrap().clear();
    }
}

impl State {
    fn serve(&self, request: &Request, stream: &TcpStream) -> Result<Again> {
        let call = call(request);
        let (operation, service) = (call.operation.clone(), call.service.clone());
        self.calls.lock().unwrap().push(call);
        let Some(fault) = self.fault(&operation) else {
            return tell(&self.forward(&operation, request), stream);
        };
        match fault {
            Fault::Throttle => tell(&refusal(request, &service, 400, "Throttling", "Rate exceeded"), stream),
            Fault::Denied => {
                let message = format!("User: stage is not authorized to perform: {service}:{operation}");
                tell(&refusal(request, &service, 403, "AccessDenied", &message), stream)
            }
            Fault::Expired => {
                let message = "The security token included in the request is expired";
                tell(&refusal(request, &service, 403, "ExpiredToken", message), stream)
            }
            Fault::Status(status) => tell(&Answer::new(status, "text/html", HTML), stream),
            Fault::Empty => tell(&Answer::new(200, "application/x-amz-json-1.1", ""), stream),
            Fault::Garbage => tell(
                &Answer::new(200, "application/x-amz-json-1.1", b"\x00\xff\xfe{]\x80".as_slice()),
                stream,
            ),
            Fault::Truncated => {
                let mut answer = self.forward(&operation, request);
                let length = answer.body.len();
                answer.body.truncate(length / 2);
                answer.write(stream, length.max(1)).map(|()| false)
            }
            Fault::Reset => socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).map(|()| false),
            Fault::Hang => until_it_leaves(stream, None).map(|()| false),
            Fault::Slow(time) => {
                until_it_leaves(stream, Some(time))?;
                tell(&self.forward(&operation, request), stream)
            }
            Fault::Redirect(to) => {
                let mut answer = Answer::new(307, "text/html", HTML);
                answer.headers.push(("Location".to_owned(), to));
                tell(&answer, stream)
            }
            Fault::Endless => endless(stream).map(|()| false),
            Fault::Canned(answer) => tell(&answer, stream),
            Fault::Edited(edit) => {
                let mut body = self.forward(&operation, request).value();
                edit(&mut body);
                tell(&Answer::json(200, &body), stream)
            }
        }
    }

    /// What is to happen to this operation; what has happened often enough is forgotten.
    fn fault(&self, operation: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let meant = |active: &Active| active.operation == operation || active.operation == ALL;
        let at = faults.iter().rposition(|active| meant(active) && active.left > 0)?;
        faults[at].left -= 1;
        Some(faults[at].fault.clone())
    }

    fn forward(&self, operation: &str, request: &Request) -> Answer {
        let port = self.routes.lock().unwrap().get(operation).copied().unwrap_or(self.upstream);
        send(port, request)
            .unwrap_or_else(|error| Answer::new(502, "text/plain", format!("port {port}: {error}")))
    }
}

fn tell(answer: &Answer, stream: &TcpStream) -> Result<Again> {
    answer.write(stream, answer.body.len()).map(|()| true)
}

/// Waits for the end of the connection, or so long.
fn until_it_leaves(mut stream: &TcpStream, time: Option<Duration>) -> Result<()> {
    stream.set_read_timeout(time)?;
    let end = stream.read(&mut [0; 1]);
    stream.set_read_timeout(None)?;
    match end {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
        other => other.and(Err(std::io::ErrorKind::ConnectionAborted.into())),
    }
}

fn endless(mut stream: &TcpStream) -> Result<()> {
    let head = "HTTP/1.1 200 stage\r\nContent-Type: application/x-amz-json-1.1\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"{\"x\": \"")?;
    loop {
        stream.write_all(&[b'a'; 16 << 10])?;
    }
}

fn call(request: &Request) -> Call {
    let known = |table: &[(&str, &str)], word: &str| {
        let found = table.iter().find(|(own, _)| *own == word);
        found.map_or(word, |(_, service)| service).to_owned()
    };
    let body = String::from_utf8_lossy(&request.body);
    let field = |name: &str| body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let signature = request.signature();
    let target = request.header("x-amz-target").and_then(|target| target.split_once('.'));
    let (service, operation) = if let Some((target, operation)) = target {
        (known(&TARGETS, target), operation.to_owned())
    } else if let Some(action) = field("Action") {
        (known(&VERSIONS, field("Version").unwrap_or_default()), action.to_owned())
    } else {
        let service = signature.as_ref().map(|signature| signature.service.clone());
        (service.unwrap_or_default(), format!("{} {}", request.method, request.path))
    };
    Call { service, operation, signature, at: Instant::now(), request: request.clone() }
}

/// An error as the protocol of the request has it. With JSON the types end in `Exception`, the status is always 400, and
/// some services put a namespace before the type and write `Message`.
fn refusal(request: &Request, service: &str, status: u16, code: &str, message: &str) -> Answer {
    if request.header("x-amz-target").is_some() {
        let body = match code {
            "Throttling" => json!({"__type": "ThrottlingException", "message": message}),
            _ => json!({"__type": format!("com.amazon.coral.service#{code}Exception"), "Message": message}),
        };
        return Answer::json(400, &body);
    }
    let version = VERSIONS.iter().find(|(_, own)| *own == service).map_or("", |(version, _)| version);
    let body = format!(
        "<ErrorResponse xmlns=\"https://{service}.amazonaws.com/doc/{version}/\">\n  <Error>\n    <Type>Sender</Type>\n    \
         <Code>{code}</Code>\n    <Message>{message}</Message>\n  </Error>\n  <RequestId>stage</RequestId>\n</ErrorResponse>\n"
    );
    Answer::new(status, "text/xml", body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moto::{Moto, shared_moto};
    use crate::wire::{ACCESS_KEY, ACCOUNT, REGION, form_call, json_call};
    use std::io::BufReader;

    fn parameter(name: &str) -> Request {
        json_call("ssm", "AmazonSSM.GetParameter", &json!({"Name": name, "WithDecryption": true}))
    }

    fn identity() -> Request {
        form_call("sts", "2011-06-15", "GetCallerIdentity", &[])
    }

    #[test]
    fn what_moto_answers_passes_and_is_written_down() {
        let moto = shared_moto();
        moto.ssm("/recorder/passes", "geheim");
        let recorder = Recorder::start(moto.port());
        assert_eq!(recorder.url(), format!("http://127.0.0.1:{}", recorder.port()));
        let ask = |request| send(recorder.port(), &request).unwrap();
        assert_eq!(ask(parameter("/recorder/passes")).value()["Parameter"]["Value"], "geheim");
        assert_eq!(ask(parameter("/recorder/nothing")).error(), "ParameterNotFound");
        assert!(ask(identity()).text().contains(&format!("<Account>{ACCOUNT}</Account>")));
        let role = [
            ("RoleArn", "arn:aws:iam::123456789012:role/r"),
            ("RoleSessionName", "s"),
            ("WebIdentityToken", "a.b.c"),
        ];
        let mut web = form_call("sts", "2011-06-15", "AssumeRoleWithWebIdentity", &role);
        web.headers.retain(|(name, _)| name != "Authorization");
        assert!(ask(web).text().contains("<SessionToken>"));
        let (method, path) = ("GET".to_owned(), "/latest/meta-data/iam/security-credentials/".to_owned());
        assert_eq!(ask(Request { method, path, headers: vec![], body: vec![] }).text(), "default-role");

        let calls = recorder.calls();
        let names: Vec<(&str, &str)> =
            calls.iter().map(|call| (call.service.as_str(), call.operation.as_str())).collect();
        let expected = [
            ("ssm", "GetParameter"),
            ("ssm", "GetParameter"),
            ("sts", "GetCallerIdentity"),
            ("sts", "AssumeRoleWithWebIdentity"),
            ("", "GET /latest/meta-data/iam/security-credentials/"),
        ];
        assert_eq!(names, expected);
        assert_eq!((recorder.count("GetParameter"), recorder.count(ALL)), (2, 5));
        let signature = calls[0].signature.clone().unwrap();
        assert_eq!((signature.access_key.as_str(), signature.region.as_str()), (ACCESS_KEY, REGION));
        assert!(!signature.session_token && calls[3].signature.is_none());
        assert!(calls[1].request.body.ends_with(b"}") && calls[1].at >= calls[0].at);
    }

    #[test]
    fn a_refusal_speaks_the_protocol_of_its_service() {
        let recorder = Recorder::start(shared_moto().port());
        for (fault, json, xml) in [
            (Fault::Throttle, "ThrottlingException", "<Code>Throttling</Code>"),
            (Fault::Denied, "com.amazon.coral.service#AccessDeniedException", "<Code>AccessDenied</Code>"),
            (Fault::Expired, "com.amazon.coral.service#ExpiredTokenException", "<Code>ExpiredToken</Code>"),
        ] {
            recorder.fail(ALL, fault);
            let answer = send(recorder.port(), &parameter("/x")).unwrap();
            assert_eq!((answer.status, answer.error().as_str()), (400, json));
            let answer = send(recorder.port(), &identity()).unwrap();
            assert!(answer.status >= 400 && answer.text().contains(xml), "{}", answer.text());
        }
    }

    #[test]
    fn a_fault_hits_its_operation_as_often_as_it_is_told() {
        let moto = shared_moto();
        moto.ssm("/recorder/often", "geheim");
        let recorder = Recorder::start(moto.port());
        let status = |request: &Request| send(recorder.port(), request).unwrap().status;
        recorder.fail(ALL, Fault::Status(503));
        recorder.fail_times("GetParameter", 2, Fault::Status(500));
        let seen = [(); 3].map(|()| status(&parameter("/recorder/often")));
        assert_eq!((seen, status(&identity())), ([500, 500, 503], 503));
        recorder.calm();
        assert_eq!(status(&parameter("/recorder/often")), 200);
        assert_eq!(recorder.count(ALL), 5);
    }

    #[test]
    fn each_broken_answer_is_broken_as_it_says() {
        let moto = shared_moto();
        moto.ssm("/recorder/broken", "geheim");
        let recorder = Recorder::start(moto.port());
        let broken = |fault| {
            recorder.fail(ALL, fault);
            send(recorder.port(), &parameter("/recorder/broken"))
        };
        let whole = send(recorder.port(), &parameter("/recorder/broken")).unwrap();
        let page = broken(Fault::Status(500)).unwrap();
        assert_eq!((page.status, page.header("content-type")), (500, Some("text/html")));
        let empty = broken(Fault::Empty).unwrap();
        assert_eq!((empty.status, empty.body.len()), (200, 0));
        let garbage = broken(Fault::Garbage).unwrap();
        assert!(garbage.status == 200 && serde_json::from_slice::<Value>(&garbage.body).is_err());
        let half = broken(Fault::Truncated).unwrap();
        assert_eq!(half.body, whole.body[..whole.body.len() / 2]);
        assert_eq!(half.header("content-length"), whole.header("content-length"));
        let reset = broken(Fault::Reset).unwrap_err();
        assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
        let away = broken(Fault::Redirect("http://127.0.0.1:1/latest".to_owned())).unwrap();
        assert_eq!((away.status, away.header("location")), (307, Some("http://127.0.0.1:1/latest")));
        let canned =
            Answer { status: 418, headers: vec![("A".to_owned(), "b".to_owned())], body: b"tea".to_vec() };
        let answer = broken(Fault::Canned(canned)).unwrap();
        assert_eq!((answer.status, answer.header("a"), answer.text().as_str()), (418, Some("b"), "tea"));
        let edited = broken(Fault::Edited(|body| body["Parameter"]["Value"] = json!("other"))).unwrap();
        assert_eq!(edited.value()["Parameter"]["Value"], "other");
        let start = Instant::now();
        let late = broken(Fault::Slow(Duration::from_millis(300))).unwrap();
        assert!(late.body == whole.body && start.elapsed() >= Duration::from_millis(300));
    }

    #[test]
    fn what_hangs_and_what_never_ends_ends_with_the_client() {
        let recorder = Recorder::start(shared_moto().port());
        let ask = || {
            let mut stream = TcpStream::connect(("127.0.0.1", recorder.port())).unwrap();
            stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n").unwrap();
            stream
        };
        recorder.fail(ALL, Fault::Endless);
        let mut much = Vec::new();
        BufReader::new(ask()).take(4 << 20).read_to_end(&mut much).unwrap();
        assert_eq!(much.len(), 4 << 20);
        for fault in [Fault::Hang, Fault::Slow(Duration::from_mins(10))] {
            recorder.fail(ALL, fault);
            let mut stream = ask();
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        }
        crate::stage::eventually("all connections are gone", || (recorder.open() == 0).then_some(()));
        recorder.fail(ALL, Fault::Hang);
        let mut stream = ask();
        crate::stage::eventually("it hangs", || (recorder.open() == 1).then_some(()));
        drop(recorder);
        assert_eq!(stream.read(&mut [0]).unwrap_or_default(), 0);
    }

    #[test]
    fn a_query_that_failed_is_an_edited_one() {
        let moto = Moto::start("recorder-athena");
        let recorder = Recorder::start(moto.port());
        recorder.fail(
            "GetQueryExecution",
            Fault::Edited(|body| {
                let execution = &mut body["QueryExecution"];
                execution["Status"] = json!({"State": "FAILED", "StateChangeReason": "no such table"});
                execution["Statistics"]["DataScannedInBytes"] = json!(7);
            }),
        );
        let ask = |operation: &str, body| {
            let target = format!("AmazonAthena.{operation}");
            send(recorder.port(), &json_call("athena", &target, &body)).unwrap().value()
        };
        let id = ask("StartQueryExecution", json!({"QueryString": "select 1"}))["QueryExecutionId"].take();
        let answer = ask("GetQueryExecution", json!({"QueryExecutionId": id}));
        assert_eq!(answer["QueryExecution"]["QueryExecutionId"], id);
        assert_eq!(answer["QueryExecution"]["Status"]["State"], "FAILED");
        assert_eq!(answer["QueryExecution"]["Statistics"]["DataScannedInBytes"], 7);
    }
}
