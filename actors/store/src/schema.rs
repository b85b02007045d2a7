//! The columns of the schema `bus` that rows are inserted by; `migrations/00000000000002_bus` makes the tables.

diesel::table! {
    bus.outbox (seq) {
        seq -> Int8,
        id -> Uuid,
        producer -> Text,
        source -> Text,
        #[sql_name = "type"]
        ty -> Text,
        subject -> Nullable<Text>,
        version -> Nullable<Int8>,
        traceparent -> Nullable<Text>,
        tracestate -> Nullable<Text>,
        time -> Timestamptz,
        expires_at -> Timestamptz,
        exchange -> Text,
        routing_key -> Text,
        data -> Jsonb,
    }
}

diesel::table! {
    bus.dead_letters (id) {
        id -> Uuid,
        handler -> Text,
        letter -> Text,
        inbox_key -> Nullable<Uuid>,
        source -> Nullable<Text>,
        event_id -> Nullable<Text>,
        #[sql_name = "type"]
        ty -> Nullable<Text>,
        reason -> Text,
        causes -> Array<Text>,
        attempts -> Int4,
        trace_id -> Nullable<Text>,
        failed_at -> Timestamptz,
        content_type -> Nullable<Text>,
        headers -> Jsonb,
        body -> Bytea,
    }
}
