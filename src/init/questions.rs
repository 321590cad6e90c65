//! The questions of `datapulse init` on a terminal: few, each with its default in brackets.

use super::{CHANNEL, Delivery, Given, Login, PROMETHEUS, Part, Secrets, Server, login::name, servers};
use std::collections::btree_map::Entry;
use std::io::{self, BufRead, Write};

/// Asks for what was not given by flags. An answer that does not fit is asked for again; the end of the input is an error.
pub fn ask(given: &mut Given, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<()> {
    let mut talk = Talk { input, output };
    if given.parts.is_empty() {
        talk.say("What should datapulse do?\n")?;
        for (number, part) in (1..).zip(Part::ALL) {
            talk.say(&format!("  {number:2}  {:18} {}\n", part.word(), part.purpose()))?;
        }
        given.parts = talk.ask("Numbers or words, with commas between, or all", "pg_subscription", parts)?;
    }
    for server in servers(&given.parts) {
        if let Entry::Vacant(place) = given.logins.entry(server) {
            place.insert(login(&mut talk, server)?);
        }
    }
    let has = |part| given.parts.contains(&part);
    let (logs, slack) = (has(Part::Logs), has(Part::Slack));
    if given.secrets.is_none() && (logs || slack || !given.logins.is_empty()) {
        let words = "Where are secrets kept: env (variables), file, or ssm (AWS Parameter Store)";
        given.secrets = Some(talk.ask(words, "env", value::<Secrets>)?);
    }
    if given.delivery.is_none() && logs {
        let words = "How do logs come: doors (Firehose or a Lambda function delivers) or pull (datapulse asks CloudWatch)";
        given.delivery = Some(talk.ask(words, "doors", value::<Delivery>)?);
    }
    if given.prometheus.is_none() {
        given.prometheus = Some(talk.ask("Address of Prometheus", PROMETHEUS, address)?);
    }
    if given.channel.is_none() && slack {
        let answer = talk.ask("Slack channel, by its id", CHANNEL, channel)?;
        given.channel = Some(answer).filter(|answer| answer != CHANNEL);
    }
    Ok(())
}

fn login(talk: &mut Talk<'_, impl BufRead, impl Write>, server: Server) -> io::Result<Login> {
    let guess = Login::guess(server);
    let port = guess.port;
    talk.say(&format!("The {}: {}\n", server.name(), server.product()))?;
    let words = format!("  Host, or host:port if that is not {port}");
    let mut login = talk.ask(&words, &guess.host, |answer| {
        let told = Login::parse(server, answer)?;
        Ok(Login { guess: answer == guess.host, ..told })
    })?;
    let named = |answer: &str| name(server, answer);
    if server != Server::Cache {
        login.database = talk.ask("  Database", &login.database, named)?;
    }
    login.user = talk.ask("  User", &login.user, named)?;
    Ok(login)
}

/// A conversation, line by line.
struct Talk<'a, I, O> {
    input: &'a mut I,
    output: &'a mut O,
}

impl<I: BufRead, O: Write> Talk<'_, I, O> {
    fn say(&mut self, words: &str) -> io::Result<()> {
        self.output.write_all(words.as_bytes())?;
        self.output.flush()
    }

    fn ask<T>(
        &mut self,
        words: &str,
        default: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> io::Result<T> {
        loop {
            self.say(&format!("{words} [{default}]: "))?;
            let mut line = String::new();
            if self.input.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let answer = line.trim();
            match read(if answer.is_empty() { default } else { answer }) {
                Ok(value) => return Ok(value),
                Err(why) => self.say(&format!("  {why}\n"))?,
            }
        }
    }
}

fn parts(answer: &str) -> Result<Vec<Part>, String> {
    if answer == "all" {
        return Ok(Part::ALL.to_vec());
    }
    let words = answer.split([',', ' ']).filter(|word| !word.is_empty());
    let read = words.map(|word| {
        let numbered =
            word.parse::<usize>().ok().and_then(|number| Part::ALL.get(number.checked_sub(1)?).copied());
        numbered.or_else(|| Part::of(word)).ok_or_else(|| format!("{word:?} is not in the list"))
    });
    read.collect()
}

fn value<T: clap::ValueEnum>(answer: &str) -> Result<T, String> {
    T::from_str(answer, true).map_err(|_not_one| {
        let names = T::value_variants().iter().filter_map(T::to_possible_value);
        let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
        format!("one of: {}", names.join(", "))
    })
}

/// Reads the address of a Prometheus.
pub fn address(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest)
            if !rest.is_empty() && rest.chars().all(|letter| letter.is_ascii_graphic() && letter != '@') =>
        {
            Ok(text.to_owned())
        }
        _ => Err("expected an address such as http://127.0.0.1:9090, without a password in it".to_owned()),
    }
}

/// Reads the id of a channel.
pub fn channel(text: &str) -> Result<String, String> {
    let fits = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit();
    if !text.is_empty() && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected a channel's id, such as {CHANNEL}; Slack shows it at the end of the channel's details"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(given: &mut Given, answers: &str) -> (io::Result<()>, String) {
        let mut output = Vec::new();
        let ended = ask(given, &mut answers.as_bytes(), &mut output);
        (ended, String::from_utf8(output).unwrap())
    }

    #[test]
    fn only_what_the_choice_needs_is_asked() {
        let mut given = Given::default();
        let (ended, said) = answered(&mut given, "2, slack\npub:6432\n\nme\nfile\n\nC1\n");
        ended.unwrap();
        assert_eq!(given.parts, [Part::PgReplication, Part::Slack]);
        let login = &given.logins[&Server::Publisher];
        let told = (login.host.as_str(), login.port, login.database.as_str(), login.user.as_str());
        assert_eq!((told, login.guess), (("pub", 6432, "postgres", "me"), false));
        assert_eq!((given.secrets, given.delivery), (Some(Secrets::File), None));
        assert_eq!((given.prometheus.as_deref(), given.channel.as_deref()), (Some(PROMETHEUS), Some("C1")));
        assert!(!said.contains("The subscriber") && !said.contains("How do logs come"), "{said}");
    }

    #[test]
    fn an_answer_that_does_not_fit_is_asked_again_and_the_end_of_the_input_is_an_end() {
        let mut given = Given::default();
        let (ended, said) = answered(&mut given, "12\nnonsense\n9\n");
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(given.parts, [Part::MemoryDb]);
        for why in ["\"12\" is not in the list", "\"nonsense\" is not in the list"] {
            assert!(said.contains(why), "{said}");
        }
    }
}
