//! Traces: our spans, sent by OTLP over gRPC.
//!
//! No call waits for the receiver. Spans go into a bounded queue, and a separate thread sends
//! them in batches. Spans are dropped if the queue is full or the receiver refuses them. A
//! span has a name, times and a code, and no value that a caller sent.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt as _, TraceState, TracerProvider as _},
};
use opentelemetry_otlp::{
    ExporterBuildError, WithExportConfig as _, WithTonicConfig as _,
    tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    resource::EnvResourceDetector,
    trace::{
        BatchConfig, BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData,
        SpanExporter,
    },
};
use tracing::{Span, Subscriber, info, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use super::{Causes, SPANS};
use crate::model::Traceparent;

/// The time limit for sending the last spans at exit. It and the drain together end within the
/// 15 s that a stop may take.
const LAST_SPANS: Duration = Duration::from_millis(1500);

/// About 6 MB.
const MAX_QUEUED_SPANS: usize = 16 * 1024;

const LEAST_DELAY: Duration = Duration::from_millis(1);

pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Connects when there are spans to send. The caller must have entered a runtime.
    pub fn to(endpoint: &str) -> Result<Self, ExporterBuildError> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint);
        let exporter = if endpoint.starts_with("https:") {
            exporter.with_tls_config(ClientTlsConfig::new().with_native_roots())
        } else {
            exporter
        };
        let exporter = Reporting {
            exporter: exporter.build()?,
            failing: AtomicBool::new(false),
        };
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(bounded_batches())
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_resource(resource())
            .build();
        Ok(Self(provider))
    }

    /// The layer that exports our spans, and no others.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("auth-service"))
            .with_context_activation(false)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(filter_fn(|metadata| {
                metadata.is_span() && metadata.target() == SPANS
            }))
    }

    /// Sends the last spans, for at most `LAST_SPANS`.
    pub fn close(self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_SPANS) {
            warn!(error = %Causes(&error), "the last spans are lost");
        }
    }
}

/// The settings of the `OTEL_BSP_` variables, within bounds. The SDK allocates the whole queue at once, whatever its length,
/// and without a delay it would keep a core busy.
fn bounded_batches() -> BatchConfig {
    let wanted = |name| std::env::var(name).unwrap_or_default().parse::<usize>();
    let mut config = BatchConfigBuilder::default();
    if let Ok(MAX_QUEUED_SPANS..) = wanted("OTEL_BSP_MAX_QUEUE_SIZE") {
        config = config.with_max_queue_size(MAX_QUEUED_SPANS);
    }
    if let Ok(0) = wanted("OTEL_BSP_SCHEDULE_DELAY") {
        config = config.with_scheduled_delay(LEAST_DELAY);
    }
    config.build()
}

/// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` override our attributes.
fn resource() -> Resource {
    let ours = [
        KeyValue::new("service.name", "auth-service"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let name = std::env::var("OTEL_SERVICE_NAME").unwrap_or_default();
    let name = (!name.is_empty()).then(|| KeyValue::new("service.name", name));
    Resource::builder_empty()
        .with_attributes(ours)
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_attributes(name)
        .build()
}

/// Logs once that the receiver refuses our spans, and once that it accepts them again.
#[derive(Debug)]
struct Reporting<E> {
    exporter: E,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Reporting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch).await;
        let failed_before = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !failed_before => {
                warn!(error = %Causes(error), "cannot send spans: they are dropped");
            }
            Ok(()) if failed_before => info!("sending spans again"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Makes the span a part of the trace of `traceparent`.
pub(crate) fn set_parent(span: &Span, traceparent: &Traceparent) {
    if let Some(parent) = span_context(traceparent) {
        let parent = Context::new().with_remote_span_context(parent);
        // Fails if traces are off.
        let _ = span.set_parent(parent);
    }
}

/// The `traceparent` for calls and events that the span causes, if traces are on.
pub(crate) fn traceparent(span: &Span) -> Option<Traceparent> {
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    let (trace, span) = (context.trace_id(), context.span_id());
    let flags = context.trace_flags().to_u8();
    Traceparent::parse(&format!("00-{trace}-{span}-{flags:02x}"))
}

fn span_context(traceparent: &Traceparent) -> Option<SpanContext> {
    let flags = u8::from_str_radix(traceparent.flags(), 16).ok()?;
    Some(SpanContext::new(
        TraceId::from_hex(traceparent.trace_id()).ok()?,
        SpanId::from_hex(traceparent.parent_id()).ok()?,
        TraceFlags::new(flags) & TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    ))
}
