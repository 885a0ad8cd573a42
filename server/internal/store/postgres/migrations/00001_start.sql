-- +goose Up
-- Counters that many transactions look at: 'generation' grows with profiles, assignments and CAs; the row 'trust' is the
-- lock of everything that depends on the key set; 'status' numbers the changes in ca_answers, and is their lock.
CREATE TABLE meta (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO meta (name, value) VALUES ('generation', 1), ('trust', 0), ('status', 0);

CREATE TABLE settings (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value TEXT COLLATE "C" NOT NULL
);

-- What the connectors published, byte for byte.
CREATE TABLE trust (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value BYTEA NOT NULL
);

CREATE TABLE users (
    id         TEXT COLLATE "C" PRIMARY KEY,
    upn        TEXT COLLATE "C" NOT NULL,
    upn_key    TEXT COLLATE "C" NOT NULL UNIQUE,
    spec       TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE objects (
    space  TEXT COLLATE "C" NOT NULL, -- 'profile' or 'assignment': names are unique in each
    name   TEXT COLLATE "C" NOT NULL,
    kind   TEXT COLLATE "C" NOT NULL,
    object TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (space, name)
);

CREATE TABLE devices (
    id            TEXT COLLATE "C" PRIMARY KEY,
    user_id       TEXT COLLATE "C" NOT NULL,
    platform      TEXT COLLATE "C" NOT NULL,
    external_id   TEXT COLLATE "C" NOT NULL,
    name          TEXT COLLATE "C" NOT NULL,
    model         TEXT COLLATE "C" NOT NULL,
    os_version    TEXT COLLATE "C" NOT NULL,
    serial_number TEXT COLLATE "C" NOT NULL,
    imei          TEXT COLLATE "C" NOT NULL,
    state         TEXT COLLATE "C" NOT NULL,
    removal       TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    state_at      BIGINT NOT NULL,
    last_seen     BIGINT NOT NULL
);
CREATE UNIQUE INDEX devices_external ON devices (platform, external_id, user_id);
CREATE INDEX devices_user ON devices (user_id);

CREATE TABLE enrolments (
    id                 TEXT COLLATE "C" PRIMARY KEY,
    device_id          TEXT COLLATE "C" NOT NULL,
    user_id            TEXT COLLATE "C" NOT NULL,
    platform           TEXT COLLATE "C" NOT NULL,
    channel            TEXT COLLATE "C" NOT NULL,
    external_id        TEXT COLLATE "C" NOT NULL,
    state              TEXT COLLATE "C" NOT NULL,
    certificate        BYTEA,
    cert_sha256        TEXT COLLATE "C" NOT NULL,
    holder_id          TEXT COLLATE "C" NOT NULL,
    cert_store         TEXT COLLATE "C" NOT NULL,
    credential_hash    TEXT COLLATE "C" NOT NULL,
    next_certificate   BYTEA,
    next_cert_sha256   TEXT COLLATE "C" NOT NULL,
    push_token         BYTEA,
    push_magic         TEXT COLLATE "C" NOT NULL,
    push_topic         TEXT COLLATE "C" NOT NULL,
    must_reenroll      BOOLEAN NOT NULL,
    version            BIGINT NOT NULL,
    settled_generation BIGINT NOT NULL,
    dirty              BOOLEAN NOT NULL,
    inventory_at       BIGINT NOT NULL,
    last_seen          BIGINT NOT NULL,
    pushed_at          BIGINT NOT NULL DEFAULT 0,
    pushed_version     BIGINT NOT NULL DEFAULT 0,
    push_failed_at     BIGINT NOT NULL DEFAULT 0,
    push_failure       TEXT COLLATE "C" NOT NULL DEFAULT '',
    created_at         BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX enrolments_certificate ON enrolments (cert_sha256) WHERE channel = 'device';
CREATE INDEX enrolments_holder ON enrolments (holder_id) WHERE holder_id <> '';
CREATE UNIQUE INDEX enrolments_next_certificate ON enrolments (next_cert_sha256) WHERE next_cert_sha256 <> '';
CREATE INDEX enrolments_device ON enrolments (device_id);
CREATE INDEX enrolments_user ON enrolments (user_id);
CREATE INDEX enrolments_dirty ON enrolments (pushed_at) WHERE dirty AND state = 'active';
CREATE INDEX enrolments_inventory ON enrolments (inventory_at) WHERE state = 'active';
CREATE INDEX enrolments_settled ON enrolments (settled_generation) WHERE state = 'active';

CREATE TABLE sessions (
    enrolment_id TEXT COLLATE "C" PRIMARY KEY REFERENCES enrolments (id) ON DELETE CASCADE,
    session_id   TEXT COLLATE "C" NOT NULL,
    heard        BIGINT NOT NULL,
    login        TEXT COLLATE "C" NOT NULL,
    state        TEXT COLLATE "C" NOT NULL,
    version      BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL
);

CREATE TABLE documents (
    enrolment_id          TEXT COLLATE "C" NOT NULL REFERENCES enrolments (id) ON DELETE CASCADE,
    document_id           TEXT COLLATE "C" NOT NULL,
    revision              TEXT COLLATE "C" NOT NULL,
    document              TEXT COLLATE "C" NOT NULL,
    status                TEXT COLLATE "C" NOT NULL,
    reason                TEXT COLLATE "C" NOT NULL,
    detail                TEXT COLLATE "C" NOT NULL,
    installed_revision    TEXT COLLATE "C" NOT NULL,
    installed_proof       TEXT COLLATE "C" NOT NULL,
    installed_identifier  TEXT COLLATE "C" NOT NULL,
    leftovers             TEXT COLLATE "C" NOT NULL,
    installed_credentials TEXT COLLATE "C" NOT NULL,
    installed_at          BIGINT NOT NULL,
    payload               BYTEA,
    payload_revision      TEXT COLLATE "C" NOT NULL,
    payload_recipient     TEXT COLLATE "C" NOT NULL,
    sent_revision         TEXT COLLATE "C" NOT NULL,
    sent_proof            TEXT COLLATE "C" NOT NULL,
    sent_identifier       TEXT COLLATE "C" NOT NULL,
    sent_credentials      TEXT COLLATE "C" NOT NULL,
    reported_seq          BIGINT NOT NULL,
    renders               BIGINT NOT NULL,
    redeliver             TEXT COLLATE "C" NOT NULL,
    losses                TEXT COLLATE "C" NOT NULL,
    attempts              BIGINT NOT NULL,
    retry_at              BIGINT NOT NULL,
    updated_at            BIGINT NOT NULL,
    PRIMARY KEY (enrolment_id, document_id)
);

CREATE TABLE commands (
    uuid         TEXT COLLATE "C" NOT NULL,
    enrolment_id TEXT COLLATE "C" NOT NULL REFERENCES enrolments (id) ON DELETE CASCADE,
    request_type TEXT COLLATE "C" NOT NULL,
    document_id  TEXT COLLATE "C" NOT NULL,
    revision     TEXT COLLATE "C" NOT NULL,
    state        TEXT COLLATE "C" NOT NULL,
    error        TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    PRIMARY KEY (enrolment_id, uuid)
);
CREATE INDEX commands_open ON commands (enrolment_id, created_at) WHERE state IN ('sent', 'notNow');
CREATE INDEX commands_not_now ON commands (updated_at) WHERE state = 'notNow';

CREATE TABLE inventories (
    enrolment_id    TEXT COLLATE "C" PRIMARY KEY REFERENCES enrolments (id) ON DELETE CASCADE,
    facts_at        BIGINT NOT NULL,
    profiles_at     BIGINT NOT NULL,
    profiles        TEXT COLLATE "C" NOT NULL,
    certificates_at BIGINT NOT NULL,
    certificates    TEXT COLLATE "C" NOT NULL
);

CREATE TABLE certificates (
    sha256       TEXT COLLATE "C" NOT NULL,
    sha1         TEXT COLLATE "C" NOT NULL,
    der          BYTEA NOT NULL,
    addresses    TEXT COLLATE "C" NOT NULL,
    not_before   BIGINT NOT NULL,
    not_after    BIGINT NOT NULL,
    purpose      TEXT COLLATE "C" NOT NULL,
    record_id    TEXT COLLATE "C" NOT NULL,
    kind         TEXT COLLATE "C" NOT NULL,
    user_id      TEXT COLLATE "C" NOT NULL,
    device_id    TEXT COLLATE "C" NOT NULL,
    enrolment_id TEXT COLLATE "C" NOT NULL,
    profile      TEXT COLLATE "C" NOT NULL,
    ca           TEXT COLLATE "C" NOT NULL,
    subject      TEXT COLLATE "C" NOT NULL,
    issuer       TEXT COLLATE "C" NOT NULL,
    serial       TEXT COLLATE "C" NOT NULL,
    status       TEXT COLLATE "C" NOT NULL,
    status_at    BIGINT NOT NULL,
    revoke_on    TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (sha256, user_id) -- two users may have imported one certificate
);
CREATE INDEX certificates_user ON certificates (user_id, kind);
CREATE INDEX certificates_enrolment ON certificates (enrolment_id) WHERE enrolment_id <> '';
CREATE INDEX certificates_record ON certificates (record_id) WHERE record_id <> '';

CREATE TABLE records (
    id           TEXT COLLATE "C" PRIMARY KEY,
    cert_sha256  TEXT COLLATE "C" NOT NULL,
    record       TEXT COLLATE "C" NOT NULL,
    kind         TEXT COLLATE "C" NOT NULL,
    user_id      TEXT COLLATE "C" NOT NULL,
    enrolment_id TEXT COLLATE "C" NOT NULL,
    purpose      TEXT COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX records_imported ON records (user_id, cert_sha256) WHERE kind = 'imported';
CREATE INDEX records_enrolment ON records (enrolment_id) WHERE enrolment_id <> '';

CREATE TABLE jobs (
    id           TEXT COLLATE "C" PRIMARY KEY,
    job_key      TEXT COLLATE "C" NOT NULL UNIQUE,
    kind         TEXT COLLATE "C" NOT NULL,
    payload      TEXT COLLATE "C" NOT NULL,
    user_id      TEXT COLLATE "C" NOT NULL,
    enrolment_id TEXT COLLATE "C" NOT NULL,
    document_id  TEXT COLLATE "C" NOT NULL,
    revision     TEXT COLLATE "C" NOT NULL,
    recipient    TEXT COLLATE "C" NOT NULL,
    needs        TEXT COLLATE "C" NOT NULL,
    state        TEXT COLLATE "C" NOT NULL,
    attempt      BIGINT NOT NULL,
    leased_by    TEXT COLLATE "C" NOT NULL,
    lease_until  BIGINT NOT NULL,
    run_at       BIGINT NOT NULL,
    error        TEXT COLLATE "C" NOT NULL,
    reason       TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL
);
CREATE INDEX jobs_open ON jobs (run_at) WHERE state = 'open';
CREATE INDEX jobs_leased ON jobs (lease_until, user_id) WHERE state = 'leased';
CREATE INDEX jobs_enrolment ON jobs (enrolment_id) WHERE enrolment_id <> '';

CREATE TABLE connectors (
    id              TEXT COLLATE "C" PRIMARY KEY,
    name            TEXT COLLATE "C" NOT NULL,
    member_id       TEXT COLLATE "C" NOT NULL UNIQUE,
    member          TEXT COLLATE "C" NOT NULL,
    credential_hash TEXT COLLATE "C" NOT NULL,
    state           TEXT COLLATE "C" NOT NULL,
    sealed_cas      BYTEA,
    created_at      BIGINT NOT NULL,
    last_seen       BIGINT NOT NULL
);

CREATE TABLE connector_tokens (
    token_hash TEXT COLLATE "C" PRIMARY KEY,
    expires_at BIGINT NOT NULL,
    spent_at   BIGINT NOT NULL,
    spent_by   TEXT COLLATE "C" NOT NULL
);

CREATE TABLE links (
    id         TEXT COLLATE "C" PRIMARY KEY,
    token_hash TEXT COLLATE "C" NOT NULL UNIQUE,
    user_id    TEXT COLLATE "C" NOT NULL,
    platform   TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    spent_at   BIGINT NOT NULL,
    spent_by   TEXT COLLATE "C" NOT NULL DEFAULT ''
);

CREATE TABLE challenges (
    hash         TEXT COLLATE "C" PRIMARY KEY,
    link_id      TEXT COLLATE "C" NOT NULL,
    user_id      TEXT COLLATE "C" NOT NULL,
    platform     TEXT COLLATE "C" NOT NULL,
    enrolment_id TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    key_sha256   TEXT COLLATE "C" NOT NULL,
    job_id       TEXT COLLATE "C" NOT NULL,
    certificate  BYTEA,
    chain        TEXT COLLATE "C" NOT NULL
);
CREATE INDEX challenges_job ON challenges (job_id) WHERE job_id <> '';

CREATE TABLE scep_requests (
    hash         TEXT COLLATE "C" PRIMARY KEY,
    enrolment_id TEXT COLLATE "C" NOT NULL,
    request_id   TEXT COLLATE "C" NOT NULL,
    key_sha256   TEXT COLLATE "C" NOT NULL,
    signer_sha256 TEXT COLLATE "C" NOT NULL,
    transaction_id TEXT COLLATE "C" NOT NULL,
    job_id       TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL,
    certificate  BYTEA,
    chain        TEXT COLLATE "C" NOT NULL
);
CREATE INDEX scep_requests_job ON scep_requests (job_id);
CREATE INDEX scep_requests_enrolment ON scep_requests (enrolment_id, request_id);
CREATE INDEX certificates_end ON certificates (not_after) WHERE status = 'current';

CREATE TABLE notices (
    key      TEXT COLLATE "C" PRIMARY KEY,
    payload  BYTEA NOT NULL,
    at       BIGINT NOT NULL,
    taken_at BIGINT NOT NULL
);
CREATE INDEX notices_waiting ON notices (at) WHERE taken_at = 0;

CREATE INDEX scep_requests_transaction ON scep_requests (transaction_id);

CREATE TABLE audit (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      BIGINT NOT NULL,
    actor   TEXT COLLATE "C" NOT NULL,
    action  TEXT COLLATE "C" NOT NULL,
    object  TEXT COLLATE "C" NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    detail  TEXT COLLATE "C" NOT NULL
);

-- Revocation lists and certificates of the S/MIME CA, served as they are. A list is replaced by one of a higher number only.
CREATE TABLE ca_files (
    name       TEXT COLLATE "C" PRIMARY KEY,
    content    BYTEA NOT NULL,
    number     BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Signed OCSP answers of the S/MIME CA. A revoked certificate stays revoked. change numbers certificates and revocations in
-- the order in which they became known, so that connectors learn of each other's.
CREATE TABLE ca_answers (
    ca          TEXT COLLATE "C" NOT NULL,
    serial      TEXT COLLATE "C" NOT NULL,
    not_after   BIGINT NOT NULL,
    revoked     BOOLEAN NOT NULL,
    this_update BIGINT NOT NULL,
    next_update BIGINT NOT NULL,
    due_at      BIGINT NOT NULL,
    member_id   TEXT COLLATE "C" NOT NULL,
    change      BIGINT NOT NULL,
    sha1        BYTEA NOT NULL,
    sha256      BYTEA NOT NULL,
    PRIMARY KEY (ca, serial)
);
CREATE UNIQUE INDEX ca_answers_change ON ca_answers (change);
CREATE INDEX ca_answers_due ON ca_answers (due_at);

-- CAs of others that ask this server whether a request is right.
CREATE TABLE partners (
    name        TEXT COLLATE "C" PRIMARY KEY,
    app_id      TEXT COLLATE "C" NOT NULL UNIQUE,
    secret_hash TEXT COLLATE "C" NOT NULL,
    url         TEXT COLLATE "C" NOT NULL,
    chain       TEXT COLLATE "C" NOT NULL,
    created_at  BIGINT NOT NULL
);

-- What partners told of the certificates that they issued, in their words.
CREATE TABLE partner_certificates (
    id               TEXT COLLATE "C" PRIMARY KEY, -- sha256 in certificates
    partner          TEXT COLLATE "C" NOT NULL,
    request_hash     TEXT COLLATE "C" NOT NULL,
    serial           TEXT COLLATE "C" NOT NULL,
    issuer           TEXT COLLATE "C" NOT NULL,
    ca_configuration TEXT COLLATE "C" NOT NULL,
    at               BIGINT NOT NULL
);
CREATE INDEX partner_certificates_request ON partner_certificates (request_hash);

-- +goose Down
DROP TABLE partner_certificates;
DROP TABLE partners;
DROP TABLE ca_answers;
DROP TABLE ca_files;
DROP TABLE audit;
DROP TABLE notices;
DROP TABLE scep_requests;
DROP TABLE challenges;
DROP TABLE links;
DROP TABLE connector_tokens;
DROP TABLE connectors;
DROP TABLE jobs;
DROP TABLE records;
DROP TABLE certificates;
DROP TABLE inventories;
DROP TABLE commands;
DROP TABLE documents;
DROP TABLE sessions;
DROP TABLE enrolments;
DROP TABLE devices;
DROP TABLE objects;
DROP TABLE users;
DROP TABLE trust;
DROP TABLE settings;
DROP TABLE meta;
