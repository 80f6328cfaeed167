//! Checkpoint storage in a bucket of S3, or of a server that speaks its protocol and knows `If-None-Match: *`.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use streamjob_crds::S3Connection;

use super::{Answer, Storage, StorageError};
use crate::secrets::Secrets;

/// Tries of one request, the first included.
const TRIES: u32 = 4;
const CONNECT: Duration = Duration::from_secs(3);
/// Of one try, its whole body included.
const TRY: Duration = Duration::from_secs(120);
/// Between two tries of a create that met another one under way.
const CONFLICT_PAUSE: Duration = Duration::from_millis(200);

pub(super) struct S3 {
    client: Client,
    bucket: String,
    /// For messages: `s3://bucket at http://server`.
    place: String,
}

impl S3 {
    /// Sets up the client; nothing is sent yet.
    pub async fn connect(
        connection: &S3Connection,
        secrets: &Secrets,
    ) -> Result<Self, StorageError> {
        let S3Connection {
            endpoint,
            region,
            bucket,
            path_style,
            credentials_secret_ref,
        } = connection;
        let place = match endpoint {
            Some(endpoint) => format!("s3://{bucket} at {endpoint}"),
            None => format!("s3://{bucket}"),
        };
        let mut shared =
            aws_config::defaults(BehaviorVersion::latest()).region(region_of(region.as_deref()));
        if let Some(secret) = credentials_secret_ref {
            let read = |key| {
                let value = secrets.read_key(&secret.name, key);
                value.map_err(|error| StorageError::Refused {
                    place: place.clone(),
                    why: error.to_string(),
                })
            };
            let (id, key) = (read("accessKeyId")?, read("secretAccessKey")?);
            shared = shared.credentials_provider(Credentials::new(
                id.reveal(),
                key.reveal(),
                None,
                None,
                "credentialsSecretRef",
            ));
        }
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(TRY)
            .build();
        let retries = RetryConfig::standard()
            .with_max_attempts(TRIES)
            .with_initial_backoff(Duration::from_millis(100))
            .with_max_backoff(Duration::from_secs(3));
        let mut config = aws_sdk_s3::config::Builder::from(&shared.load().await)
            .timeout_config(timeouts)
            .retry_config(retries)
            .force_path_style(*path_style)
            // Servers other than Amazon's do not all know the newer checksums; the manifest's SHA-256 covers every part.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint);
        }
        Ok(S3 {
            client: Client::from_conf(config.build()),
            bucket: bucket.clone(),
            place,
        })
    }

    async fn create(&self, name: &str, body: Bytes) -> Result<(), StorageError> {
        for _ in 0..TRIES {
            let request = self.client.put_object().bucket(&self.bucket).key(name);
            let sent = request
                .if_none_match("*")
                .body(ByteStream::from(body.clone()))
                .send();
            let error = match sent.await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            match status(&error) {
                // Ours, if an earlier try got through and its answer did not; the SDK retries unseen.
                Some(412) => return self.same(name, &body).await,
                // Another conditional create of the name is under way.
                Some(409) => tokio::time::sleep(CONFLICT_PAUSE).await,
                _ => return Err(self.explain(name, error)),
            }
        }
        self.same(name, &body).await
    }

    async fn same(&self, name: &str, body: &Bytes) -> Result<(), StorageError> {
        match self.read(name).await? == *body {
            true => Ok(()),
            false => Err(StorageError::Taken {
                place: self.place.clone(),
                name: name.to_owned(),
            }),
        }
    }

    async fn read(&self, name: &str) -> Result<Bytes, StorageError> {
        let request = self.client.get_object().bucket(&self.bucket).key(name);
        let found = request
            .send()
            .await
            .map_err(|error| self.explain(name, error))?;
        let body = found.body.collect().await;
        let body = body.map_err(|error| StorageError::Unreachable {
            place: self.place.clone(),
            why: format!(
                "reading {name} was cut off: {}",
                DisplayErrorContext(&error)
            ),
        })?;
        Ok(body.into_bytes())
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        let request = self.client.delete_object().bucket(&self.bucket).key(name);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match self.explain(name, error) {
                StorageError::Missing { .. } => Ok(()),
                error => Err(error),
            },
        }
    }

    async fn delete_all(&self, folder: &str) -> Result<usize, StorageError> {
        let mut deleted = 0;
        loop {
            let request = self.client.list_objects_v2().bucket(&self.bucket);
            let page = request.prefix(format!("{folder}/")).send().await;
            let page = page.map_err(|error| self.explain(folder, error))?;
            let names = page.contents().iter().filter_map(|object| object.key());
            let before = deleted;
            for name in names {
                self.delete(name).await?;
                deleted += 1;
            }
            // What was deleted is on no further page.
            if page.is_truncated() != Some(true) || deleted == before {
                return Ok(deleted);
            }
        }
    }

    /// Sorts an error by what there is to do about it.
    fn explain<E>(&self, name: &str, error: SdkError<E>) -> StorageError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let place = self.place.clone();
        let unreachable = |why| StorageError::Unreachable {
            place: self.place.clone(),
            why,
        };
        let refused = |why| StorageError::Refused { place, why };
        let (code, status) = (error.code().map(str::to_owned), status(&error));
        let details = match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            _ => DisplayErrorContext(&error).to_string(),
        };
        match (&error, code.as_deref(), status) {
            (SdkError::ServiceError(_), Some("NoSuchBucket"), _) => refused(format!(
                "the bucket `{}` does not exist: create it, or correct the connection",
                self.bucket
            )),
            (SdkError::ServiceError(_), Some("NoSuchKey"), _)
            | (SdkError::ServiceError(_), None, Some(404)) => StorageError::Missing {
                place: self.place.clone(),
                name: name.to_owned(),
            },
            (SdkError::ServiceError(_), _, Some(401 | 403)) => refused(format!(
                "{details}: check the credentials and their right to put, get and delete objects and to list the bucket"
            )),
            (SdkError::ServiceError(_), _, Some(408 | 429 | 500..)) => unreachable(details),
            (SdkError::ServiceError(_), ..) => refused(details),
            // Without credentials no request is made at all.
            (SdkError::ConstructionFailure(_), ..) => refused(details),
            _ if details.contains("credentials") => refused(format!(
                "no credentials: name a secret in `credentialsSecretRef`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY ({details})"
            )),
            _ => unreachable(details),
        }
    }
}

fn region_of(declared: Option<&str>) -> Region {
    let from_env = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let region = declared
        .map(str::to_owned)
        .or_else(|| from_env("AWS_REGION"))
        .or_else(|| from_env("AWS_DEFAULT_REGION"));
    Region::new(region.unwrap_or_else(|| "us-east-1".to_owned()))
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error
        .raw_response()
        .map(|response| response.status().as_u16())
}

impl Storage for S3 {
    fn create<'a>(&'a self, name: &'a str, body: Bytes) -> Answer<'a, ()> {
        Box::pin(S3::create(self, name, body))
    }

    fn read<'a>(&'a self, name: &'a str) -> Answer<'a, Bytes> {
        Box::pin(S3::read(self, name))
    }

    fn delete<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        Box::pin(S3::delete(self, name))
    }

    fn delete_all<'a>(&'a self, folder: &'a str) -> Answer<'a, usize> {
        Box::pin(S3::delete_all(self, folder))
    }
}
