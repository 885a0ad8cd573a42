package connectorapi_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// memory is a Store of one test; it keeps what was completed.
type memory struct {
	mu         sync.Mutex
	tokens     map[string]time.Time
	spent      map[string]string
	connectors map[string]model.Connector
	trust      connectorapi.Trust
	jobs       map[string]model.Job
	completed  []connectorapi.Completion
	audit      []model.AuditEntry
	conflict   bool
	exchanged  []connectorapi.StatusExchange
	// onClaim says, for each claim, whether another node stores a job just before.
	onClaim func(n int) bool
	claims  int
}

func newMemory() *memory {
	return &memory{tokens: map[string]time.Time{}, spent: map[string]string{}, connectors: map[string]model.Connector{}, jobs: map[string]model.Job{}}
}

func (m *memory) lock() func() { m.mu.Lock(); return m.mu.Unlock }

func (m *memory) CreateConnectorToken(_ context.Context, hash string, expires time.Time, a model.AuditEntry) error {
	defer m.lock()()
	m.tokens[hash] = expires
	m.audit = append(m.audit, a)
	return nil
}

func (m *memory) RegisterConnector(_ context.Context, hash string, c model.Connector, _ []byte, now time.Time, a model.AuditEntry) (model.Connector, error) {
	defer m.lock()()
	expires, ok := m.tokens[hash]
	switch {
	case !ok:
		return c, model.ErrNotFound
	case now.After(expires):
		return c, model.ErrExpired
	case m.spent[hash] != "" && m.spent[hash] != c.Member.ID:
		return c, model.ErrSpent
	}
	c.State = model.ConnectorPending
	if len(m.connectors) == 0 {
		c.State = model.ConnectorTrusted
	}
	for _, old := range m.connectors {
		if old.Member.ID == c.Member.ID {
			c.ID, c.State = old.ID, old.State
		}
	}
	m.spent[hash], m.connectors[c.ID] = c.Member.ID, c
	m.audit = append(m.audit, a)
	return c, nil
}

func (m *memory) ConnectorByID(_ context.Context, id string) (model.Connector, error) {
	defer m.lock()()
	c, ok := m.connectors[id]
	if !ok {
		return c, model.ErrNotFound
	}
	return c, nil
}

func (m *memory) Connectors(context.Context) ([]model.Connector, error) {
	defer m.lock()()
	var out []model.Connector
	for _, c := range m.connectors {
		out = append(out, c)
	}
	return out, nil
}

func (m *memory) Publish(_ context.Context, _ string, p link.PublishRequest, _ time.Time, a model.AuditEntry) error {
	defer m.lock()()
	if m.conflict {
		return model.ErrConflict
	}
	m.trust.DeviceCA, m.trust.CAs = p.DeviceCA, p.CAs
	if p.KeySet != nil {
		m.trust.KeySet = p.KeySet
	}
	if len(p.RACertificate) > 0 {
		m.trust.RACertificate = p.RACertificate
	}
	for id, sealed := range p.SealedCAs {
		c := m.connectors[id]
		c.SealedCAs = sealed
		m.connectors[id] = c
	}
	m.audit = append(m.audit, a)
	return nil
}

func (m *memory) Trust(context.Context) (connectorapi.Trust, error) {
	defer m.lock()()
	return m.trust, nil
}

func (m *memory) Claim(_ context.Context, connectorID string, most int, lease time.Duration, now time.Time) ([]model.Job, error) {
	defer m.lock()()
	if m.claims++; m.onClaim != nil && m.onClaim(m.claims) {
		m.jobs["other"] = model.Job{ID: "other", Kind: link.JobRevoke, State: model.JobOpen, Payload: []byte(`{}`)}
	}
	var out []model.Job
	for id, j := range m.jobs {
		if j.State != model.JobOpen || len(out) == most {
			continue
		}
		j.State, j.LeasedBy, j.LeaseUntil, j.Attempt = model.JobLeased, connectorID, now.Add(lease), j.Attempt+1
		m.jobs[id] = j
		out = append(out, j)
	}
	return out, nil
}

func (m *memory) JobByID(_ context.Context, id string) (model.Job, error) {
	defer m.lock()()
	j, ok := m.jobs[id]
	if !ok {
		return j, model.ErrNotFound
	}
	return j, nil
}

func (m *memory) Complete(_ context.Context, c connectorapi.Completion) error {
	defer m.lock()()
	if m.conflict {
		return model.ErrConflict
	}
	j := m.jobs[c.JobID]
	j.State = model.JobDone
	if c.Failure != nil {
		j.State = model.JobOpen
	}
	m.jobs[c.JobID] = j
	m.completed = append(m.completed, c)
	return nil
}

func (m *memory) Setting(context.Context, string) (json.RawMessage, error) {
	return nil, model.ErrNotFound
}
func (m *memory) SetSetting(context.Context, string, json.RawMessage) error { return nil }

func (m *memory) AppendAudit(_ context.Context, e ...model.AuditEntry) error {
	defer m.lock()()
	m.audit = append(m.audit, e...)
	return nil
}

// bench is the endpoint with a connector that is played by a link.Client.
type bench struct {
	*link.Client
	url      string
	store    *memory
	service  *connectorapi.Service
	deviceCA *testpki.CA
	mailCA   *testpki.CA
	ra       *testpki.Identity
	root     ed25519.PrivateKey
	key      escrow.PrivateKey
	stored   int
	rendered func(platforms.Document, []byte) error
	// after replaces time.After; by default no time passes. ends is for the test that sets it.
	after func(time.Duration) <-chan time.Time
	ends  bool
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{store: newMemory(), deviceCA: testpki.NewCA(t, "Device CA"), mailCA: testpki.NewCA(t, "Mail CA")}
	b.after = func(time.Duration) <-chan time.Time { return nil }
	b.ra = &testpki.Identity{Key: testpki.PoolKey(t, 7)}
	var err error
	if _, b.root, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if b.key, err = escrow.GenerateKey(rand.Reader, escrow.SuiteP256); err != nil {
		t.Fatal(err)
	}
	b.service = connectorapi.New(connectorapi.Config{Store: b.store, Status: b.store, RAKey: b.ra.Key, PKIURL: "http://pki.test",
		CheckRendered: func(_ profiles.Platform, d platforms.Document, p []byte) error {
			if b.rendered != nil {
				return b.rendered(d, p)
			}
			return nil
		},
		Stored: func() { b.stored++ }, Clock: testpki.Now, After: func(d time.Duration) <-chan time.Time { return b.after(d) }})
	r := web.New(web.Config{})
	b.service.Routes(r)
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	b.url = server.URL
	b.Client = &link.Client{BaseURL: server.URL, HTTP: &http.Client{}}
	return b
}

func (b *bench) member() escrow.Member { return b.key.Member(escrow.MemberConnector, "c1") }

// register makes the played connector known and trusted.
func (b *bench) register(t *testing.T) {
	t.Helper()
	token, _, err := b.service.CreateToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.Register(t.Context(), link.RegisterRequest{Token: token, Name: "c1", Member: b.member(), EscrowRoot: b.root.Public().(ed25519.PublicKey)})
	if err != nil {
		t.Fatal(err)
	}
	b.ConnectorID, b.Credential = out.ConnectorID, out.Credential
}

func (b *bench) keySetOf(t *testing.T, serial uint64, members ...escrow.Member) *escrow.SignedKeySet {
	t.Helper()
	set, err := escrow.SignKeySet(escrow.KeySet{Serial: serial, Members: members}, b.root)
	if err != nil {
		t.Fatal(err)
	}
	return &set
}

func (b *bench) offer(t *testing.T) link.PublishRequest {
	t.Helper()
	return link.PublishRequest{DeviceCA: b.deviceCA.Cert.Raw, CAs: []link.CA{{Name: "softca", Kind: "softca", Certificate: b.mailCA.Cert.Raw}},
		KeySet: b.keySetOf(t, 1, b.member())}
}

// ready registers and publishes.
func (b *bench) ready(t *testing.T) {
	t.Helper()
	b.register(t)
	if _, err := b.Publish(t.Context(), b.offer(t)); err != nil {
		t.Fatal(err)
	}
}

// lease puts a job that the connector has.
func (b *bench) lease(t *testing.T, kind link.JobKind, payload any) model.Job {
	t.Helper()
	raw, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	j := model.Job{ID: "job-1", Key: string(kind) + ":1", Kind: kind, Payload: raw, EnrolmentID: "enr-1", DocumentID: "", State: model.JobLeased, LeasedBy: b.ConnectorID, Attempt: 1}
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	b.store.jobs[j.ID] = j
	return j
}

// answer sends a job's answer and gives what was completed.
func (b *bench) answer(t *testing.T, j model.Job, answer any) (*connectorapi.Completion, error) {
	t.Helper()
	raw, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	err = b.Result(t.Context(), j.ID, link.Result{Attempt: j.Attempt, Answer: raw})
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	if len(b.store.completed) == 0 {
		return nil, err
	}
	return &b.store.completed[len(b.store.completed)-1], err
}
