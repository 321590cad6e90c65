//! The way to AWS: regions, credentials and clients, made when they are first needed; every call is capped, timed and counted.

mod failure;
mod http;
mod instances;
mod picture;
mod query;
mod sign;
mod stores;
mod token;

pub use failure::problem;
pub use instances::Instance;
pub(crate) use query::encoded;
pub use query::{Field, Query};
pub use stores::{Service, StoreCluster, StoreEvent, StoreNode, StoreShard, StoreSnapshot};
pub use token::{Cluster, Login};

use crate::check::{Problem, Reason};
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_smithy_runtime::client::retries::{RetryPartition, TokenBucket};
use aws_types::service_config::ServiceConfigKey;
use metrics::{Answer, Handle, Metric, Unit};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Connecting takes longer only when nobody is there.
const CONNECT: Duration = Duration::from_secs(3);
/// One attempt; every call that we make is answered in far less.
const ATTEMPT: Duration = Duration::from_secs(10);
/// A call with its attempts.
const CALL: Duration = Duration::from_secs(25);
/// Attempts of a call, as long as the budget of its client lasts.
const ATTEMPTS: u32 = 3;
/// The budget: a retry costs so much ...
const RETRY_COST: u32 = 5;
/// ... of a bucket that holds so much: when AWS says slow down to everything, a client repeats two calls and then none.
const RETRY_BUDGET: usize = 10;
/// ... and that every good call fills by so much: retries are never more than a fifth of what works.
const RETRY_REWARD: f32 = 1.0;

/// `datapulse_aws_api_calls_total`
pub static CALLS: Metric<3> = Metric::counter(
    "datapulse.aws.api_calls",
    Unit::None,
    &["service", "operation", "result"],
    "Calls made to AWS, every attempt, by IAM service prefix and operation; result is ok, throttled or error",
);

/// Where in AWS, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Place {
    /// The region; the SDK's own (`AWS_REGION`, profile, instance) when absent.
    pub region: Option<String>,
    /// ARN of a role to assume first.
    pub assume_role: Option<String>,
}

/// AWS as the environment and the SDK's files describe it, shared by all checks and the vault. Nothing is read before it is needed.
#[derive(Default)]
pub struct Aws {
    base: OnceCell<SdkConfig>,
    places: Mutex<BTreeMap<Place, SdkConfig>>,
    calls: Arc<Calls>,
    signers: sign::Signers,
}

/// How often each operation was called, and with what result.
#[derive(Debug, Default)]
pub struct Calls(Mutex<BTreeMap<(String, String, &'static str), u64>>);

/// A result of a call, as the label has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallResult {
    Good,
    Throttled,
    Bad,
}

impl CallResult {
    const ALL: [Self; 3] = [Self::Good, Self::Throttled, Self::Bad];

    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Throttled => "throttled",
            Self::Bad => "error",
        }
    }
}

impl Calls {
    fn count(&self, service: &str, operation: &str, result: CallResult) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // All results exist from the first call on, so that the first failure is an increase.
        for known in CallResult::ALL {
            let count = calls.entry((service.to_owned(), operation.to_owned(), known.word())).or_default();
            *count += u64::from(known == result);
        }
    }

    /// Adds the counters.
    pub fn tell(&self, answer: &mut Answer) {
        for ((service, operation, result), count) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            answer.set(&CALLS, [service, operation, result], *count as f64);
        }
    }
}

impl Aws {
    /// The counters of calls.
    pub fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// The families told here, for the catalogue.
    pub fn families() -> Vec<Handle> {
        vec![CALLS.handle()]
    }

    /// A client of Athena.
    ///
    /// # Errors
    /// `credentials` when there is no region.
    pub async fn athena(&self, place: &Place) -> Result<aws_sdk_athena::Client, Problem> {
        let config = self.config(place).await?;
        let config = aws_sdk_athena::config::Builder::from(&config).retry_partition(budget("athena")).build();
        Ok(aws_sdk_athena::Client::from_conf(config))
    }

    /// A client of CloudWatch Logs.
    ///
    /// # Errors
    /// As [`Aws::athena`].
    pub async fn logs(&self, place: &Place) -> Result<aws_sdk_cloudwatchlogs::Client, Problem> {
        let config = self.config(place).await?;
        let config =
            aws_sdk_cloudwatchlogs::config::Builder::from(&config).retry_partition(budget("logs")).build();
        Ok(aws_sdk_cloudwatchlogs::Client::from_conf(config))
    }

    /// A client of Systems Manager, for parameters.
    ///
    /// # Errors
    /// As [`Aws::athena`].
    pub async fn ssm(&self, place: &Place) -> Result<aws_sdk_ssm::Client, Problem> {
        let config = self.config(place).await?;
        let config = aws_sdk_ssm::config::Builder::from(&config).retry_partition(budget("ssm")).build();
        Ok(aws_sdk_ssm::Client::from_conf(config))
    }

    /// A client of Secrets Manager.
    ///
    /// # Errors
    /// As [`Aws::athena`].
    pub async fn secrets_manager(&self, place: &Place) -> Result<aws_sdk_secretsmanager::Client, Problem> {
        let config = self.config(place).await?;
        let config = aws_sdk_secretsmanager::config::Builder::from(&config)
            .retry_partition(budget("secretsmanager"))
            .build();
        Ok(aws_sdk_secretsmanager::Client::from_conf(config))
    }

    async fn config(&self, place: &Place) -> Result<SdkConfig, Problem> {
        if let Some(config) = self.places.lock().unwrap_or_else(PoisonError::into_inner).get(place) {
            return Ok(config.clone());
        }
        let base = self.base.get_or_init(|| load(Arc::clone(&self.calls))).await;
        let mut builder = base.to_builder();
        if let Some(region) = &place.region {
            builder.set_region(Region::new(region.clone()));
        }
        let mut config = builder.build();
        if config.region().is_none() {
            return Err(Problem::new(Reason::Credentials, "no AWS region is known")
                .hint("set `region:`, or AWS_REGION for the service"));
        }
        if let Some(role) = &place.assume_role {
            let provider =
                AssumeRoleProvider::builder(role).session_name("datapulse").configure(&config).build().await;
            let provider = aws_credential_types::provider::SharedCredentialsProvider::new(provider);
            config = config.into_builder().credentials_provider(provider).build();
        }
        self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(place.clone(), config.clone());
        Ok(config)
    }

    /// The endpoint of a service instead of AWS's own, if the environment or the profile gives one, as the SDK's own clients look for it.
    /// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
    async fn endpoint(&self, place: &Place, service_id: &str) -> Result<Option<String>, Problem> {
        let config = self.config(place).await?;
        let key = ServiceConfigKey::builder()
            .service_id(service_id)
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build();
        let own = config.service_config().zip(key.ok()).and_then(|(config, key)| config.load_config(key));
        Ok(own.or_else(|| config.endpoint_url().map(str::to_owned)))
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws").field("calls", &self.calls).finish_non_exhaustive()
    }
}

/// Region, credentials and endpoints of the SDK's own chain, with our limits.
async fn load(calls: Arc<Calls>) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(CALL)
        .build();
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http::client(calls))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
    // The name is made of letters only, which is all that it is checked for.
    match AppName::new("datapulse") {
        Ok(name) => loader.app_name(name).load().await,
        Err(_) => loader.load().await,
    }
}

/// The retries that a client may make; see the constants above.
fn budget(name: &'static str) -> RetryPartition {
    let bucket = TokenBucket::builder()
        .capacity(RETRY_BUDGET)
        .retry_cost(RETRY_COST)
        .throttling_retry_cost(RETRY_COST)
        .timeout_retry_cost(RETRY_COST)
        .success_reward(RETRY_REWARD)
        .build();
    RetryPartition::custom(name).token_bucket(bucket).build()
}

/// How long to wait before asking again how a query stands: quick at first, then seldom, because each question is a call.
pub fn poll_rest(asked: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(5);
    FIRST.saturating_mul(2_u32.saturating_pow(asked)).min(LONGEST)
}
