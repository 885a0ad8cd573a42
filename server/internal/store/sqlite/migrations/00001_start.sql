-- +goose Up
-- Counters that many transactions look at: 'generation' grows with profiles, assignments and CAs; the row 'trust' is the
-- lock of everything that depends on the key set; 'status' numbers the changes in ca_answers, and is their lock.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
);
INSERT INTO meta (name, value) VALUES ('generation', 1), ('trust', 0), ('status', 0);

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- What the connectors published, byte for byte.
CREATE TABLE trust (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
);

CREATE TABLE users (
    id         TEXT PRIMARY KEY,
    upn        TEXT NOT NULL,
    upn_key    TEXT NOT NULL UNIQUE,
    spec       TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE objects (
    space  TEXT NOT NULL, -- 'profile' or 'assignment': names are unique in each
    name   TEXT NOT NULL,
    kind   TEXT NOT NULL,
    object TEXT NOT NULL,
    PRIMARY KEY (space, name)
);

CREATE TABLE devices (
    id            TEXT PRIMARY KEY,
    user_id       TEXT NOT NULL,
    platform      TEXT NOT NULL,
    external_id   TEXT NOT NULL,
    name          TEXT NOT NULL,
    model         TEXT NOT NULL,
    os_version    TEXT NOT NULL,
    serial_number TEXT NOT NULL,
    imei          TEXT NOT NULL,
    state         TEXT NOT NULL,
    removal       TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    state_at      INTEGER NOT NULL,
    last_seen     INTEGER NOT NULL
);
CREATE UNIQUE INDEX devices_external ON devices (platform, external_id, user_id);
CREATE INDEX devices_user ON devices (user_id);

CREATE TABLE enrolments (
    id                 TEXT PRIMARY KEY,
    device_id          TEXT NOT NULL,
    user_id            TEXT NOT NULL,
    platform           TEXT NOT NULL,
    channel            TEXT NOT NULL,
    external_id        TEXT NOT NULL,
    state              TEXT NOT NULL,
    certificate        BLOB,
    cert_sha256        TEXT NOT NULL,
    holder_id          TEXT NOT NULL,
    cert_store         TEXT NOT NULL,
    credential_hash    TEXT NOT NULL,
    next_certificate   BLOB,
    next_cert_sha256   TEXT NOT NULL,
    push_token         BLOB,
    push_magic         TEXT NOT NULL,
    push_topic         TEXT NOT NULL,
    must_reenroll      BOOLEAN NOT NULL,
    version            INTEGER NOT NULL,
    settled_generation INTEGER NOT NULL,
    dirty              BOOLEAN NOT NULL,
    inventory_at       INTEGER NOT NULL,
    last_seen          INTEGER NOT NULL,
    pushed_at          INTEGER NOT NULL DEFAULT 0,
    pushed_version     INTEGER NOT NULL DEFAULT 0,
    push_failed_at     INTEGER NOT NULL DEFAULT 0,
    push_failure       TEXT NOT NULL DEFAULT '',
    created_at         INTEGER NOT NULL DEFAULT 0
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
    enrolment_id TEXT PRIMARY KEY REFERENCES enrolments (id) ON DELETE CASCADE,
    session_id   TEXT NOT NULL,
    heard        INTEGER NOT NULL,
    login        TEXT NOT NULL,
    state        TEXT NOT NULL,
    version      INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL
);

CREATE TABLE documents (
    enrolment_id          TEXT NOT NULL REFERENCES enrolments (id) ON DELETE CASCADE,
    document_id           TEXT NOT NULL,
    revision              TEXT NOT NULL,
    document              TEXT NOT NULL,
    status                TEXT NOT NULL,
    reason                TEXT NOT NULL,
    detail                TEXT NOT NULL,
    installed_revision    TEXT NOT NULL,
    installed_proof       TEXT NOT NULL,
    installed_identifier  TEXT NOT NULL,
    leftovers             TEXT NOT NULL,
    installed_credentials TEXT NOT NULL,
    installed_at          INTEGER NOT NULL,
    payload               BLOB,
    payload_revision      TEXT NOT NULL,
    payload_recipient     TEXT NOT NULL,
    sent_revision         TEXT NOT NULL,
    sent_proof            TEXT NOT NULL,
    sent_identifier       TEXT NOT NULL,
    sent_credentials      TEXT NOT NULL,
    reported_seq          INTEGER NOT NULL,
    renders               INTEGER NOT NULL,
    redeliver             TEXT NOT NULL,
    losses                TEXT NOT NULL,
    attempts              INTEGER NOT NULL,
    retry_at              INTEGER NOT NULL,
    updated_at            INTEGER NOT NULL,
    PRIMARY KEY (enrolment_id, document_id)
);

CREATE TABLE commands (
    uuid         TEXT NOT NULL,
    enrolment_id TEXT NOT NULL REFERENCES enrolments (id) ON DELETE CASCADE,
    request_type TEXT NOT NULL,
    document_id  TEXT NOT NULL,
    revision     TEXT NOT NULL,
    state        TEXT NOT NULL,
    error        TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    PRIMARY KEY (enrolment_id, uuid)
);
CREATE INDEX commands_open ON commands (enrolment_id, created_at) WHERE state IN ('sent', 'notNow');
CREATE INDEX commands_not_now ON commands (updated_at) WHERE state = 'notNow';

CREATE TABLE inventories (
    enrolment_id    TEXT PRIMARY KEY REFERENCES enrolments (id) ON DELETE CASCADE,
    facts_at        INTEGER NOT NULL,
    profiles_at     INTEGER NOT NULL,
    profiles        TEXT NOT NULL,
    certificates_at INTEGER NOT NULL,
    certificates    TEXT NOT NULL
);

CREATE TABLE certificates (
    sha256       TEXT NOT NULL,
    sha1         TEXT NOT NULL,
    der          BLOB NOT NULL,
    addresses    TEXT NOT NULL,
    not_before   INTEGER NOT NULL,
    not_after    INTEGER NOT NULL,
    purpose      TEXT NOT NULL,
    record_id    TEXT NOT NULL,
    kind         TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    device_id    TEXT NOT NULL,
    enrolment_id TEXT NOT NULL,
    profile      TEXT NOT NULL,
    ca           TEXT NOT NULL,
    subject      TEXT NOT NULL,
    issuer       TEXT NOT NULL,
    serial       TEXT NOT NULL,
    status       TEXT NOT NULL,
    status_at    INTEGER NOT NULL,
    revoke_on    TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (sha256, user_id) -- two users may have imported one certificate
);
CREATE INDEX certificates_user ON certificates (user_id, kind);
CREATE INDEX certificates_enrolment ON certificates (enrolment_id) WHERE enrolment_id <> '';
CREATE INDEX certificates_record ON certificates (record_id) WHERE record_id <> '';

CREATE TABLE records (
    id           TEXT PRIMARY KEY,
    cert_sha256  TEXT NOT NULL,
    record       TEXT NOT NULL,
    kind         TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    enrolment_id TEXT NOT NULL,
    purpose      TEXT NOT NULL
);
CREATE UNIQUE INDEX records_imported ON records (user_id, cert_sha256) WHERE kind = 'imported';
CREATE INDEX records_enrolment ON records (enrolment_id) WHERE enrolment_id <> '';

CREATE TABLE jobs (
    id           TEXT PRIMARY KEY,
    job_key      TEXT NOT NULL UNIQUE,
    kind         TEXT NOT NULL,
    payload      TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    enrolment_id TEXT NOT NULL,
    document_id  TEXT NOT NULL,
    revision     TEXT NOT NULL,
    recipient    TEXT NOT NULL,
    needs        TEXT NOT NULL,
    state        TEXT NOT NULL,
    attempt      INTEGER NOT NULL,
    leased_by    TEXT NOT NULL,
    lease_until  INTEGER NOT NULL,
    run_at       INTEGER NOT NULL,
    error        TEXT NOT NULL,
    reason       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL
);
CREATE INDEX jobs_open ON jobs (run_at) WHERE state = 'open';
CREATE INDEX jobs_leased ON jobs (lease_until, user_id) WHERE state = 'leased';
CREATE INDEX jobs_enrolment ON jobs (enrolment_id) WHERE enrolment_id <> '';

CREATE TABLE connectors (
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL,
    member_id       TEXT NOT NULL UNIQUE,
    member          TEXT NOT NULL,
    credential_hash TEXT NOT NULL,
    state           TEXT NOT NULL,
    sealed_cas      BLOB,
    created_at      INTEGER NOT NULL,
    last_seen       INTEGER NOT NULL
);

CREATE TABLE connector_tokens (
    token_hash TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL,
    spent_at   INTEGER NOT NULL,
    spent_by   TEXT NOT NULL
);

CREATE TABLE links (
    id         TEXT PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    user_id    TEXT NOT NULL,
    platform   TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    spent_at   INTEGER NOT NULL,
    spent_by   TEXT NOT NULL DEFAULT ''
);

CREATE TABLE challenges (
    hash         TEXT PRIMARY KEY,
    link_id      TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    platform     TEXT NOT NULL,
    enrolment_id TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    key_sha256   TEXT NOT NULL,
    job_id       TEXT NOT NULL,
    certificate  BLOB,
    chain        TEXT NOT NULL
);
CREATE INDEX challenges_job ON challenges (job_id) WHERE job_id <> '';

CREATE TABLE scep_requests (
    hash         TEXT PRIMARY KEY,
    enrolment_id TEXT NOT NULL,
    request_id   TEXT NOT NULL,
    key_sha256   TEXT NOT NULL,
    signer_sha256 TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    job_id       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    certificate  BLOB,
    chain        TEXT NOT NULL
);
CREATE INDEX scep_requests_job ON scep_requests (job_id);
CREATE INDEX scep_requests_enrolment ON scep_requests (enrolment_id, request_id);
CREATE INDEX certificates_end ON certificates (not_after) WHERE status = 'current';

CREATE TABLE notices (
    key      TEXT PRIMARY KEY,
    payload  BLOB NOT NULL,
    at       INTEGER NOT NULL,
    taken_at INTEGER NOT NULL
);
CREATE INDEX notices_waiting ON notices (at) WHERE taken_at = 0;

CREATE INDEX scep_requests_transaction ON scep_requests (transaction_id);

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    object  TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail  TEXT NOT NULL
);

-- Revocation lists and certificates of the S/MIME CA, served as they are. A list is replaced by one of a higher number only.
CREATE TABLE ca_files (
    name       TEXT PRIMARY KEY,
    content    BLOB NOT NULL,
    number     INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);

-- Signed OCSP answers of the S/MIME CA. A revoked certificate stays revoked. change numbers certificates and revocations in
-- the order in which they became known, so that connectors learn of each other's.
CREATE TABLE ca_answers (
    ca          TEXT NOT NULL,
    serial      TEXT NOT NULL,
    not_after   INTEGER NOT NULL,
    revoked     BOOLEAN NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    member_id   TEXT NOT NULL,
    change      INTEGER NOT NULL,
    sha1        BLOB NOT NULL,
    sha256      BLOB NOT NULL,
    PRIMARY KEY (ca, serial)
);
CREATE UNIQUE INDEX ca_answers_change ON ca_answers (change);
CREATE INDEX ca_answers_due ON ca_answers (due_at);

-- CAs of others that ask this server whether a request is right.
CREATE TABLE partners (
    name        TEXT PRIMARY KEY,
    app_id      TEXT NOT NULL UNIQUE,
    secret_hash TEXT NOT NULL,
    url         TEXT NOT NULL,
    chain       TEXT NOT NULL,
    created_at  INTEGER NOT NULL
);

-- What partners told of the certificates that they issued, in their words.
CREATE TABLE partner_certificates (
    id               TEXT PRIMARY KEY, -- sha256 in certificates
    partner          TEXT NOT NULL,
    request_hash     TEXT NOT NULL,
    serial           TEXT NOT NULL,
    issuer           TEXT NOT NULL,
    ca_configuration TEXT NOT NULL,
    at               INTEGER NOT NULL
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
