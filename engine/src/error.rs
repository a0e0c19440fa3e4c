//! The numbers that Kafka's protocol gives to errors. Every error type of the engine maps to one of them.

/// A Kafka protocol error code, as a broker puts it into a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
#[non_exhaustive]
pub enum KafkaErrorCode {
    /// A failure that the protocol has no better name for.
    UnknownServerError = -1,
    /// The offset lies outside the log.
    OffsetOutOfRange = 1,
    /// A batch fails its checksum or cannot be decoded.
    CorruptMessage = 2,
    /// The partition is not here.
    UnknownTopicOrPartition = 3,
    /// This broker is not the partition's leader, or not one of its replicas.
    NotLeaderOrFollower = 6,
    /// The request was not done in time.
    RequestTimedOut = 7,
    /// A batch exceeds `max.message.bytes`.
    MessageTooLarge = 10,
    /// A topic name that is not allowed.
    InvalidTopic = 17,
    /// A set of batches exceeds `segment.bytes`.
    RecordListTooLarge = 18,
    /// Too few replicas are in sync to take an append with acks=all.
    NotEnoughReplicas = 19,
    /// The records are in the log, but by now too few replicas are in sync.
    NotEnoughReplicasAfterAppend = 20,
    /// An acks that is not 0, 1 or -1.
    InvalidRequiredAcks = 21,
    /// A record's timestamp lies outside the accepted range.
    InvalidTimestamp = 32,
    /// A configuration value outside its bounds.
    InvalidConfig = 40,
    /// A request that cannot be served as stated.
    InvalidRequest = 42,
    /// A batch of a message format that is not supported.
    UnsupportedForMessageFormat = 43,
    /// A producer's sequence does not continue.
    OutOfOrderSequenceNumber = 45,
    /// A producer's epoch is older than the known one.
    InvalidProducerEpoch = 47,
    /// A batch does not fit the state of its producer's transaction.
    InvalidTxnState = 48,
    /// The coordinator that wrote a marker was replaced.
    TransactionCoordinatorFenced = 52,
    /// The controller did not try the change, because another one of the same request failed.
    OperationNotAttempted = 55,
    /// The file or directory failed.
    KafkaStorageError = 56,
    /// The leader epoch is older than the known one.
    FencedLeaderEpoch = 74,
    /// The leader epoch is newer than the known one.
    UnknownLeaderEpoch = 75,
    /// A codec that is not available.
    UnsupportedCompressionType = 76,
    /// The offset is not known yet, shortly after an election.
    OffsetNotAvailable = 78,
    /// A record or batch breaks a rule of the format.
    InvalidRecord = 87,
    /// A change of a partition that was made for another partition epoch.
    InvalidUpdateVersion = 95,
    /// The topic id is not known.
    UnknownTopicId = 100,
    /// A topic id that differs from the stored one.
    InconsistentTopicId = 103,
    /// The change was made, and by it the partition has another leader.
    NewLeaderElected = 106,
    /// A replica may not join the in-sync replicas: it is fenced, shutting down, or was started anew.
    IneligibleReplica = 107,
}

impl KafkaErrorCode {
    /// The name that Kafka's protocol gives to the error.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownServerError => "UNKNOWN_SERVER_ERROR",
            Self::OffsetOutOfRange => "OFFSET_OUT_OF_RANGE",
            Self::CorruptMessage => "CORRUPT_MESSAGE",
            Self::UnknownTopicOrPartition => "UNKNOWN_TOPIC_OR_PARTITION",
            Self::MessageTooLarge => "MESSAGE_TOO_LARGE",
            Self::InvalidTopic => "INVALID_TOPIC_EXCEPTION",
            Self::RecordListTooLarge => "RECORD_LIST_TOO_LARGE",
            Self::InvalidTimestamp => "INVALID_TIMESTAMP",
            Self::InvalidConfig => "INVALID_CONFIG",
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::UnsupportedForMessageFormat => "UNSUPPORTED_FOR_MESSAGE_FORMAT",
            Self::OutOfOrderSequenceNumber => "OUT_OF_ORDER_SEQUENCE_NUMBER",
            Self::InvalidProducerEpoch => "INVALID_PRODUCER_EPOCH",
            Self::InvalidTxnState => "INVALID_TXN_STATE",
            Self::TransactionCoordinatorFenced => "TRANSACTION_COORDINATOR_FENCED",
            Self::NotLeaderOrFollower => "NOT_LEADER_OR_FOLLOWER",
            Self::RequestTimedOut => "REQUEST_TIMED_OUT",
            Self::NotEnoughReplicas => "NOT_ENOUGH_REPLICAS",
            Self::NotEnoughReplicasAfterAppend => "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
            Self::InvalidRequiredAcks => "INVALID_REQUIRED_ACKS",
            Self::OperationNotAttempted => "OPERATION_NOT_ATTEMPTED",
            Self::UnknownLeaderEpoch => "UNKNOWN_LEADER_EPOCH",
            Self::OffsetNotAvailable => "OFFSET_NOT_AVAILABLE",
            Self::InvalidUpdateVersion => "INVALID_UPDATE_VERSION",
            Self::UnknownTopicId => "UNKNOWN_TOPIC_ID",
            Self::NewLeaderElected => "NEW_LEADER_ELECTED",
            Self::IneligibleReplica => "INELIGIBLE_REPLICA",
            Self::KafkaStorageError => "KAFKA_STORAGE_ERROR",
            Self::FencedLeaderEpoch => "FENCED_LEADER_EPOCH",
            Self::UnsupportedCompressionType => "UNSUPPORTED_COMPRESSION_TYPE",
            Self::InvalidRecord => "INVALID_RECORD",
            Self::InconsistentTopicId => "INCONSISTENT_TOPIC_ID",
        }
    }

    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> i16 {
        self as i16
    }
}
