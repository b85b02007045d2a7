//! The tables of the schema `autha`, as `migrations/00000000000003_autha` makes them.

diesel::table! {
    autha.accounts (id) {
        id -> Uuid,
        vanity -> Text,
        username -> Text,
        email_hash -> Bytea,
        email_sealed -> Text,
        password_hash -> Text,
        locale -> Text,
        summary -> Nullable<Text>,
        flags -> Int4,
        version -> Int8,
        avatar_upload -> Nullable<Uuid>,
        icon_upload -> Nullable<Uuid>,
        created_at -> Timestamptz,
        deleted_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    autha.uploads (id) {
        id -> Uuid,
        account -> Uuid,
        state -> Text,
        object_key -> Text,
        media_type -> Text,
        size_bytes -> Int8,
        digest -> Text,
        code -> Nullable<Text>,
        reason -> Nullable<Text>,
        created_at -> Timestamptz,
        settled_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    autha.variants (upload, width) {
        upload -> Uuid,
        width -> Int4,
        object_key -> Text,
        media_type -> Text,
        size_bytes -> Int8,
    }
}

diesel::table! {
    autha.refresh_tokens (hash) {
        hash -> Bytea,
        family -> Uuid,
        account -> Uuid,
        issued_at -> Timestamptz,
        expires_at -> Timestamptz,
        used_at -> Nullable<Timestamptz>,
        successor -> Nullable<Bytea>,
    }
}

diesel::table! {
    autha.signing_keys (kid) {
        kid -> Text,
        sealed -> Text,
        public_jwk -> Jsonb,
        created_at -> Timestamptz,
        signs_from -> Timestamptz,
        retires_at -> Timestamptz,
    }
}

diesel::table! {
    autha.idempotency_keys (key_hash) {
        key_hash -> Bytea,
        request -> Bytea,
        answer -> Text,
        created_at -> Timestamptz,
    }
}
