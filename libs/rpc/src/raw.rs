//! Calls of methods by path with messages as opaque bytes, for a gateway that translates by descriptor.

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Response, Status, Streaming};

use crate::{Channel, MAX_MESSAGE_BYTES};

/// Calls a unary method. The status of a failure has its details and metadata as the service sent them.
pub async fn unary(
    channel: &Channel,
    path: PathAndQuery,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, Status> {
    client(channel).unary(request, path, RawCodec).await
}

/// Calls a method that answers with a stream.
pub async fn server_streaming(
    channel: &Channel,
    path: PathAndQuery,
    request: Request<Bytes>,
) -> Result<Response<Streaming<Bytes>>, Status> {
    client(channel)
        .server_streaming(request, path, RawCodec)
        .await
}

fn client(channel: &Channel) -> Grpc<Channel> {
    // The channel is always ready.
    Grpc::new(channel.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// Passes messages through as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.len());
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
