//! A receiver of OTLP over gRPC, in place of a collector.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value,
    trace::v1::Span as ProtoSpan,
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::Server};

use crate::harness::hex_of;

#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    pub trace_id: String,
    pub id: String,
    pub parent_id: String,
    attributes: BTreeMap<String, String>,
    /// All other fields, as text.
    _rest: String,
}

impl Span {
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

pub struct Receiver {
    pub endpoint: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

struct Sink(Arc<Mutex<Vec<Span>>>);

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::<Mutex<_>>::default();
        let sink = TraceServiceServer::new(Sink(Arc::clone(&spans)));
        let incoming = futures::stream::unfold(listener, async |listener| {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        let server = Server::builder().add_service(sink);
        tokio::spawn(server.serve_with_incoming(incoming));
        Self { endpoint, spans }
    }

    /// All spans that have arrived.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let about = format!("{:?}", resource.resource);
            assert!(about.contains("auth-service"), "{about}");
            let spans = resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans.map(span));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn span(span: ProtoSpan) -> Span {
    let rest = format!("{span:?}");
    let attributes = span.attributes.into_iter().map(|pair| {
        let value = pair.value.and_then(|value| value.value);
        let value = match value {
            Some(any_value::Value::StringValue(text)) => text,
            Some(any_value::Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        (pair.key, value)
    });
    Span {
        name: span.name,
        trace_id: hex_of(&span.trace_id),
        id: hex_of(&span.span_id),
        parent_id: hex_of(&span.parent_span_id),
        attributes: attributes.collect(),
        _rest: rest,
    }
}
