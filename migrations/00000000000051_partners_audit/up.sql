-- What operators did with third parties, written in the transaction of what was done. No line is changed.
CREATE TABLE partners.audit (
    id     uuid PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT now(),
    -- cli: and the name that the system knows, or client: and the name of an operator's client.
    actor  text        NOT NULL,
    action text        NOT NULL,
    -- The name of a partner, the id of an endpoint, or a type.
    target text        NOT NULL,
    detail text
);
CREATE INDEX audit_at ON partners.audit (at);
GRANT SELECT, INSERT, DELETE ON partners.audit TO orrery_partners;
