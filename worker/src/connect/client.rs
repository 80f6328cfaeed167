//! A librdkafka handle and what hangs on it, so that the rest of the worker needs no `unsafe`: handles, queues, errors.
//!
//! We talk to librdkafka itself rather than through rdkafka's clients: batch consumption, event-driven delivery reports,
//! describing topics with their ids, and reading its debug log are not to be had there.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::bindings as rd;
pub use rdkafka::types::RDKafkaErrorCode as Code;

/// What a call to Kafka failed with.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message} ({code:?})")]
pub struct KafkaError {
    pub code: Code,
    pub message: String,
    /// The handle is of no use any more.
    pub fatal: bool,
    /// The same call may be made again.
    pub retriable: bool,
    /// The transaction must be aborted.
    pub abort: bool,
}

impl KafkaError {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        KafkaError {
            code,
            message: message.into(),
            fatal: code == Code::Fatal || code == Code::Fenced,
            retriable: false,
            abort: false,
        }
    }

    pub(crate) fn of(err: rd::rd_kafka_resp_err_t) -> Self {
        // SAFETY: a static string for every code.
        let message = unsafe { text(rd::rd_kafka_err2str(err)) };
        KafkaError::new(err.into(), message)
    }

    /// Takes over an error object; null means success.
    ///
    /// # Safety
    /// `error` is null or owned by the caller.
    pub(crate) unsafe fn check(error: *mut rd::rd_kafka_error_t) -> Result<(), KafkaError> {
        if error.is_null() {
            return Ok(());
        }
        unsafe {
            let code: Code = rd::rd_kafka_error_code(error).into();
            let found = KafkaError {
                code,
                message: text(rd::rd_kafka_error_string(error)),
                fatal: rd::rd_kafka_error_is_fatal(error) != 0 || code == Code::Fenced,
                retriable: rd::rd_kafka_error_is_retriable(error) != 0,
                abort: rd::rd_kafka_error_txn_requires_abort(error) != 0,
            };
            rd::rd_kafka_error_destroy(error);
            Err(found)
        }
    }

    /// Another producer took the transactional id.
    pub fn fenced(&self) -> bool {
        matches!(
            self.code,
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch
        )
    }

    /// The partition's leader is another now, or not known yet: it passes within moments.
    pub fn leader_moved(&self) -> bool {
        matches!(
            self.code,
            Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::OffsetNotAvailable
                // Of a look-up of offsets: "No leaders found".
                | Code::NoEnt
        )
    }

    /// It will not pass by itself: something is forbidden, too large or not understood.
    pub fn permanent(&self) -> bool {
        matches!(
            self.code,
            Code::MessageSizeTooLarge
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed
                | Code::InvalidRecord
                | Code::PolicyViolation
                | Code::InvalidArgument
                | Code::ValueSerialization
                | Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::UnsupportedVersion
                | Code::UnsupportedFeature
        )
    }

    /// Servers do not answer, or not in time: it may pass.
    pub fn unreachable(&self) -> bool {
        self.retriable
            || self.leader_moved()
            || matches!(
                self.code,
                Code::BrokerTransportFailure
                    | Code::AllBrokersDown
                    | Code::OperationTimedOut
                    | Code::RequestTimedOut
                    | Code::MessageTimedOut
                    | Code::TimedOutQueue
                    | Code::Resolve
                    | Code::CoordinatorNotAvailable
                    | Code::NotCoordinator
                    | Code::CoordinatorLoadInProgress
                    | Code::NetworkException
                    | Code::BrokerNotAvailable
                    | Code::NotEnoughReplicas
                    | Code::NotEnoughReplicasAfterAppend
                    | Code::WaitingForCoordinator
                    | Code::ConcurrentTransactions
                    | Code::KafkaStorageError
            )
    }
}

/// Reads librdkafka's log: facility and line. The debug lines are hidden from the user. Called on its threads: be quick.
pub type Watch = Box<dyn Fn(&str, &str) + Send + Sync>;

struct Callbacks {
    /// For the log: what this handle is.
    role: String,
    watch: Option<Watch>,
    /// The newest warning or error: what an operation that timed out timed out for.
    complaint: Mutex<Option<String>>,
}

impl Callbacks {
    /// Shows a warning, unless it is the one that was shown last.
    fn complain(&self, facility: &str, line: String) {
        let Ok(mut complaint) = self.complaint.lock() else {
            return;
        };
        // Times and counts in it differ from line to line.
        let gist = |line: &str| {
            line.split_once(" (")
                .map_or(line, |(gist, _)| gist)
                .to_owned()
        };
        let again = complaint
            .as_deref()
            .is_some_and(|last| gist(last) == gist(&line));
        if again {
            tracing::debug!(role = self.role, facility, "kafka: {line}");
        } else {
            tracing::warn!(role = self.role, facility, "kafka: {line}");
        }
        *complaint = Some(line);
    }
}

/// Settings of a handle, in order. Debug shows no values: some are secrets.
#[derive(Clone, Default)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    /// A later setting of the same key wins.
    pub fn set(&mut self, key: &str, value: impl Into<String>) -> &mut Self {
        self.0.retain(|(known, _)| known != key);
        self.0.push((key.to_owned(), value.into()));
        self
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(key, _)| key))
            .finish()
    }
}

/// An owned `rd_kafka_t`. Dropping it joins its threads.
pub struct Client {
    rk: NonNull<rd::rd_kafka_t>,
    /// Lives as long as `rk`, whose opaque pointer it is.
    callbacks: Box<Callbacks>,
    consumer: bool,
}

// SAFETY: librdkafka's handles may be used from any thread at once.
unsafe impl Send for Client {}
unsafe impl Sync for Client {}

impl Client {
    pub fn consumer(
        settings: &Settings,
        role: &str,
        watch: Option<Watch>,
    ) -> Result<Self, KafkaError> {
        Client::create(
            settings,
            rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
            role,
            watch,
        )
    }

    /// Delivery reports come as events of the main queue.
    pub fn producer(
        settings: &Settings,
        role: &str,
        watch: Option<Watch>,
    ) -> Result<Self, KafkaError> {
        Client::create(
            settings,
            rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
            role,
            watch,
        )
    }

    fn create(
        settings: &Settings,
        kind: rd::rd_kafka_type_t,
        role: &str,
        watch: Option<Watch>,
    ) -> Result<Self, KafkaError> {
        let consumer = kind == rd::rd_kafka_type_t::RD_KAFKA_CONSUMER;
        let callbacks = Box::new(Callbacks {
            role: role.to_owned(),
            watch,
            complaint: Mutex::new(None),
        });
        let mut message = [0 as c_char; 512];
        // SAFETY: `conf` is used once more, by `rd_kafka_new`, which takes it over when it succeeds; `callbacks` outlives
        // the handle.
        unsafe {
            let conf = rd::rd_kafka_conf_new();
            for (key, value) in &settings.0 {
                if let Err(error) = set(conf, key, value, &mut message) {
                    rd::rd_kafka_conf_destroy(conf);
                    return Err(error);
                }
            }
            rd::rd_kafka_conf_set_opaque(conf, ptr::from_ref(&*callbacks).cast_mut().cast());
            rd::rd_kafka_conf_set_log_cb(conf, Some(on_log));
            if !consumer {
                rd::rd_kafka_conf_set_events(conf, rd::RD_KAFKA_EVENT_DR);
            }
            let rk = rd::rd_kafka_new(kind, conf, message.as_mut_ptr(), message.len());
            match NonNull::new(rk) {
                Some(rk) => Ok(Client {
                    rk,
                    callbacks,
                    consumer,
                }),
                None => {
                    rd::rd_kafka_conf_destroy(conf);
                    Err(KafkaError::new(
                        Code::InvalidArgument,
                        text(message.as_ptr()),
                    ))
                }
            }
        }
    }

    pub(crate) fn raw(&self) -> *mut rd::rd_kafka_t {
        self.rk.as_ptr()
    }

    /// The last thing librdkafka complained about, which is usually why a call timed out.
    pub fn complaint(&self) -> Option<String> {
        self.callbacks.complaint.lock().ok()?.clone()
    }

    /// What made the handle useless, if something did.
    pub fn fatal(&self) -> Option<KafkaError> {
        let mut message = [0 as c_char; 512];
        // SAFETY: the buffer is as long as it says.
        let code =
            unsafe { rd::rd_kafka_fatal_error(self.raw(), message.as_mut_ptr(), message.len()) };
        (code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| {
            let mut error = KafkaError::of(code);
            // SAFETY: librdkafka terminates what it writes.
            error.message = unsafe { text(message.as_ptr()) };
            error.fatal = true;
            error
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: the last use of the handle. A producer's messages are dropped with it: a producer is disposable.
        unsafe {
            if self.consumer {
                rd::rd_kafka_consumer_close(self.raw());
            } else {
                let all = rd::RD_KAFKA_PURGE_F_QUEUE
                    | rd::RD_KAFKA_PURGE_F_INFLIGHT
                    | rd::RD_KAFKA_PURGE_F_NON_BLOCKING;
                rd::rd_kafka_purge(self.raw(), all);
            }
            rd::rd_kafka_destroy(self.raw());
        }
    }
}

unsafe fn set(
    conf: *mut rd::rd_kafka_conf_t,
    key: &str,
    value: &str,
    message: &mut [c_char],
) -> Result<(), KafkaError> {
    let (name, value) = (c_string(key)?, c_string(value)?);
    let result = unsafe {
        rd::rd_kafka_conf_set(
            conf,
            name.as_ptr(),
            value.as_ptr(),
            message.as_mut_ptr(),
            message.len(),
        )
    };
    match result {
        rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
        // librdkafka's message may repeat the value, which may be a secret.
        _ => Err(KafkaError::new(
            Code::InvalidArgument,
            format!("librdkafka refuses the value of `{key}`"),
        )),
    }
}

pub(crate) fn c_string(text: &str) -> Result<CString, KafkaError> {
    CString::new(text).map_err(|_| {
        KafkaError::new(
            Code::InvalidArgument,
            "a name or setting contains a zero byte",
        )
    })
}

/// # Safety
/// `pointer` is null or a terminated string.
pub(crate) unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    unsafe { CStr::from_ptr(pointer) }
        .to_string_lossy()
        .into_owned()
}

pub(crate) fn millis(timeout: Duration) -> c_int {
    c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX)
}

unsafe extern "C" fn on_log(
    rk: *const rd::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    const DEBUG: c_int = 7;
    if rk.is_null() {
        return;
    }
    // SAFETY: the opaque of every handle made here is its `Callbacks`, which outlive it; the strings are terminated.
    unsafe {
        let callbacks = &*rd::rd_kafka_opaque(rk).cast::<Callbacks>();
        let (facility, line) = (CStr::from_ptr(facility), CStr::from_ptr(line));
        let (facility, line) = (facility.to_string_lossy(), line.to_string_lossy());
        if let Some(watch) = &callbacks.watch {
            watch(&facility, &line);
        }
        match level {
            DEBUG.. => {}
            // Repeats what other lines said with the cause, for every broker and again and again.
            _ if facility == "ERROR" => {
                tracing::debug!(role = callbacks.role, %facility, "kafka: {line}");
            }
            0..=4 => callbacks.complain(&facility, line.into_owned()),
            _ => tracing::debug!(role = callbacks.role, %facility, "kafka: {line}"),
        }
    }
}

/// A queue of a handle. Make sure that it goes before the handle does.
pub(crate) struct Queue(NonNull<rd::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues lock themselves.
unsafe impl Send for Queue {}
unsafe impl Sync for Queue {}

impl Queue {
    /// A new one, for the results of admin calls.
    pub fn new(client: &Client) -> Self {
        // SAFETY: never null.
        unsafe { Queue(NonNull::new_unchecked(rd::rd_kafka_queue_new(client.raw()))) }
    }

    /// The one with a producer's delivery reports.
    pub fn main(client: &Client) -> Self {
        // SAFETY: never null.
        unsafe {
            Queue(NonNull::new_unchecked(rd::rd_kafka_queue_get_main(
                client.raw(),
            )))
        }
    }

    /// The one that a partition's records come in, no longer forwarded to the consumer's.
    pub fn partition(client: &Client, topic: &str, partition: i32) -> Result<Self, KafkaError> {
        let topic = c_string(topic)?;
        // SAFETY: the arguments live through the call; null is checked.
        unsafe {
            let queue = rd::rd_kafka_queue_get_partition(client.raw(), topic.as_ptr(), partition);
            let queue = NonNull::new(queue).ok_or_else(|| {
                KafkaError::new(Code::UnknownPartition, "no queue for the partition")
            })?;
            rd::rd_kafka_queue_forward(queue.as_ptr(), ptr::null_mut());
            Ok(Queue(queue))
        }
    }

    pub fn raw(&self) -> *mut rd::rd_kafka_queue_t {
        self.0.as_ptr()
    }

    pub fn event(&self, timeout: Duration) -> Option<Event> {
        // SAFETY: the queue is alive.
        let event = unsafe { rd::rd_kafka_queue_poll(self.raw(), millis(timeout)) };
        NonNull::new(event).map(Event)
    }

    /// Calls `on_data(opaque)` on a thread of librdkafka's whenever the queue stops being empty.
    ///
    /// # Safety
    /// `opaque` stays valid until [`Queue::silence`] was called: the callback outlives this handle of the queue.
    pub unsafe fn notify(
        &self,
        on_data: unsafe extern "C" fn(*mut rd::rd_kafka_t, *mut c_void),
        opaque: *mut c_void,
    ) {
        unsafe { rd::rd_kafka_queue_cb_event_enable(self.raw(), Some(on_data), opaque) }
    }

    /// Afterwards no call of the callback is running or will come.
    pub fn silence(&self) {
        // SAFETY: the queue is alive; it calls back under its lock, which this takes.
        unsafe { rd::rd_kafka_queue_cb_event_enable(self.raw(), None, ptr::null_mut()) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the last use of this reference.
        unsafe { rd::rd_kafka_queue_destroy(self.raw()) }
    }
}

/// An event taken off a queue.
pub(crate) struct Event(NonNull<rd::rd_kafka_event_t>);

impl Event {
    pub fn raw(&self) -> *mut rd::rd_kafka_event_t {
        self.0.as_ptr()
    }

    pub fn kind(&self) -> i32 {
        // SAFETY: the event is alive.
        unsafe { rd::rd_kafka_event_type(self.raw()) }
    }

    pub fn check(&self) -> Result<(), KafkaError> {
        // SAFETY: the event is alive.
        unsafe {
            let code = rd::rd_kafka_event_error(self.raw());
            if code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Ok(());
            }
            let mut error = KafkaError::of(code);
            let message = text(rd::rd_kafka_event_error_string(self.raw()));
            if !message.is_empty() {
                error.message = message;
            }
            Err(error)
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the last use of the event.
        unsafe { rd::rd_kafka_event_destroy(self.raw()) }
    }
}

/// Partitions with an offset each.
pub(crate) struct PartitionList(NonNull<rd::rd_kafka_topic_partition_list_t>);

impl PartitionList {
    pub fn new() -> Self {
        // SAFETY: never null.
        unsafe {
            PartitionList(NonNull::new_unchecked(
                rd::rd_kafka_topic_partition_list_new(8),
            ))
        }
    }

    pub fn add(&mut self, topic: &str, partition: i32, offset: i64) -> Result<(), KafkaError> {
        let topic = c_string(topic)?;
        // SAFETY: the list is alive, and `add` returns a pointer into it that holds until the next call.
        unsafe {
            let entry =
                rd::rd_kafka_topic_partition_list_add(self.raw(), topic.as_ptr(), partition);
            (*entry).offset = offset;
        }
        Ok(())
    }

    pub fn raw(&self) -> *mut rd::rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: the last use of the list.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.raw()) }
    }
}
