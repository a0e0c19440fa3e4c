//! A client of these tests alone: requests of `kafka-protocol` over a plain socket, nothing hidden.

use bytes::{Buf, Bytes, BytesMut};
use duramen::Durability;
use duramen_broker::{BrokerConfig, Server, Sources};
use kafka_protocol::{
    messages::{
        CreateTopicsRequest, RequestHeader, ResponseHeader, TopicName,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
    },
    protocol::{Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer},
};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};
use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle};

/// The topics that are there, and what is set for each.
const TOPICS: [(&str, &[(&str, &str)]); 3] = [
    ("orders", &[]),
    ("stamped", &[("message.timestamp.type", "LogAppendTime")]),
    ("keyed", &[("cleanup.policy", "compact")]),
];

/// A broker in this process.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    runtime: Runtime,
    serving: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Running {
    /// With a log directory and these settings, and [`TOPICS`] of four partitions each.
    pub(crate) fn start(directory: &Path, ack: Durability, settings: &[(&str, &str)]) -> Self {
        let set = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let config = BrokerConfig::from_sources(Sources {
            set,
            directories: vec![directory.to_path_buf()],
            listen: Some("127.0.0.1:0".to_owned()),
            ack,
            ..Sources::default()
        });
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(Server::open(config.unwrap())).unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let serving = runtime.spawn(async move { server.run(async { drop(stopped.await) }).await.unwrap() });
        let running = Self { address, runtime, serving, stop };
        drop(running.connect().ask(5, &new_topics()));
        running
    }

    pub(crate) fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Connection { stream, correlation_id: 0 }
    }

    /// Ends it in order.
    pub(crate) fn stop(self) {
        self.stop.send(()).unwrap();
        self.runtime.block_on(self.serving).unwrap();
    }
}

fn new_topics() -> CreateTopicsRequest {
    let config = |(name, value): &(&'static str, &'static str)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_static_str(value)))
    };
    let topic = |(name, configs): (&'static str, &[(&'static str, &'static str)])| {
        CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_static_str(name)))
            .with_num_partitions(4)
            .with_replication_factor(1)
            .with_configs(configs.iter().map(config).collect())
    };
    CreateTopicsRequest::default().with_topics(TOPICS.map(topic).to_vec()).with_timeout_ms(10_000)
}

/// A connection.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    /// Sends a request and reads its answer.
    pub(crate) fn ask<T: Request>(&mut self, version: i16, request: &T) -> io::Result<T::Response> {
        self.send(version, request)?;
        self.read::<T>(version)
    }

    /// Sends a request.
    pub(crate) fn send<T: Request>(&mut self, version: i16, request: &T) -> io::Result<()> {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).map_err(io::Error::other)?;
        self.send_body(T::KEY, version, &body)
    }

    /// Sends a request whose body is given as it is.
    pub(crate) fn send_body(&mut self, key: i16, version: i16, body: &[u8]) -> io::Result<()> {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("wire")));
        let mut bytes = BytesMut::new();
        encode_request_header_into_buffer(&mut bytes, &header).map_err(io::Error::other)?;
        bytes.extend_from_slice(body);
        let size = i32::try_from(bytes.len()).unwrap();
        self.stream.write_all(&[&size.to_be_bytes()[..], &bytes].concat())
    }

    /// Reads the answer to the oldest request that has none yet, if that was the last one sent.
    pub(crate) fn read<T: Request>(&mut self, version: i16) -> io::Result<T::Response> {
        let (id, response) = self.read_any::<T>(version)?;
        assert_eq!(id, self.correlation_id);
        Ok(response)
    }

    /// Reads an answer, and which request it is to.
    pub(crate) fn read_any<T: Request>(&mut self, version: i16) -> io::Result<(i32, T::Response)> {
        let mut bytes = self.read_frame()?;
        let header = ResponseHeader::decode(&mut bytes, T::Response::header_version(version)).unwrap();
        let response = T::Response::decode(&mut bytes, version).unwrap();
        assert!(bytes.is_empty(), "an answer has bytes too many");
        Ok((header.correlation_id, response))
    }

    /// Reads an answer as bytes.
    pub(crate) fn read_frame(&mut self) -> io::Result<Bytes> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let mut bytes = vec![0; usize::try_from((&size[..]).get_i32()).unwrap()];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }

    /// Whether the broker has closed it, without a byte more.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
