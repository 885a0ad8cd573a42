package softca

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
)

const (
	// roundEvery is how soon others' revocations and issuing CAs are learnt of; own changes start a round at once.
	roundEvery = 30 * time.Second
	// gather lets a few changes come together.
	gather = time.Second
	// reviewEvery asks the server for revocations that no answer shows, and haveEvery compares all certificates with it.
	reviewEvery = time.Hour
	haveEvery   = 24 * time.Hour
	// batch bounds the answers of one message, and perRound those of a round: two signatures each, some seconds of one core.
	batch    = 250
	perRound = 2000
	// listTries is how often lists are made again because another connector revoked meanwhile.
	listTries = 5
	// maxAhead is how far a served list may be numbered ahead of this clock.
	maxAhead = 24 * 60 * 60
)

// Server is what the publisher needs of the link.
type Server interface {
	Status(ctx context.Context, r link.StatusRequest) (link.StatusResponse, error)
}

// Publisher keeps revocation lists and OCSP answers on the server fresh, learns what other connectors issued and revoked, and
// hands them the CAs. All it must remember is in the journal; what it forgets at an end it finds out again at a start, by
// comparing with the server.
//
//	killed between "revoked" and the server   the round at the start makes list and answer
//	message lost, or its answer               the round is repeated; the server keeps the newest
//	two connectors revoke at once             the server does not take a list that lacks a revocation (Stale): learn, make again
//	another connector lost for ever           its certificates were learnt of; its answers become due and are made here
//	server put back from a backup             what it lacks, the daily comparison finds
//	keyring put back from a backup            every revocation is learnt again before a list is made
type Publisher struct {
	CA     *CA
	Server Server
	Logger *slog.Logger
	// After is time.After.
	After func(time.Duration) <-chan time.Time

	responders map[keyring.AuthorityName]*responder
	cursor     int64
	started    bool
	have       []link.StatusHave // what is left to compare
	haveAt     time.Time
	reviewAt   time.Time
	listedAt   time.Time
	listed     listed
	served     int64  // the highest number of a list on the server
	sharing    string // what the last message shared
	shared     string // what has arrived
	received   string
	refused    string
}

// listed is what the last lists were made of.
type listed struct{ revocations, cas int }

// Run makes rounds until ctx ends. A round that fails is made again: revocations are on the disk.
func (p *Publisher) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.Round(ctx); err != nil && ctx.Err() == nil {
			p.Logger.Warn("revocation lists and OCSP answers are not published", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-p.After(roundEvery):
		case <-p.CA.changed:
			select {
			case <-ctx.Done():
			case <-p.After(gather):
			}
		}
	}
}

// Round learns, answers and publishes what there is to do now.
func (p *Publisher) Round(ctx context.Context) error {
	if err := p.start(); err != nil {
		return err
	}
	if err := p.exchange(ctx); err != nil {
		return err
	}
	return p.publishLists(ctx)
}

func (p *Publisher) start() error {
	now := p.CA.keys.Now()
	if !p.started {
		if err := p.CA.load(); err != nil {
			return err
		}
		if _, err := p.CA.journal.Get(cursorKey, &p.cursor); err != nil {
			return err
		}
		p.responders, p.started = map[keyring.AuthorityName]*responder{}, true
	}
	if now.Sub(p.haveAt) >= haveEvery {
		p.have, p.haveAt = p.CA.unexpired(now), now
	}
	return nil
}

// exchange goes on until there is nothing more to learn, to compare and, within the round's measure, to answer.
func (p *Publisher) exchange(ctx context.Context) error {
	for left := perRound; ; {
		r, err := p.request(min(batch, left))
		if err != nil {
			return err
		}
		before := p.cursor
		out, err := p.send(ctx, r)
		if err != nil {
			return err
		}
		p.sent(r)
		left -= len(r.Answers)
		more := out.More && p.cursor != before
		if !more && len(p.have) == 0 && (len(r.Answers) == 0 && len(out.Lacks)+len(out.Due) == 0 || left <= 0) {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (p *Publisher) request(most int) (link.StatusRequest, error) {
	r := link.StatusRequest{Cursor: p.cursor, Received: p.received, Have: p.have[:min(len(p.have), link.MaxStatus)]}
	r.Review = p.CA.keys.Now().Sub(p.reviewAt) >= reviewEvery
	var err error
	if r.Shared, err = p.share(); err != nil {
		return r, err
	}
	certs := p.CA.dequeue(most)
	if r.Answers, err = p.answers(certs); err != nil {
		p.requeue(certs)
	}
	if len(r.Answers) > 0 && err == nil {
		r.Files, err = p.certificates()
	}
	return r, err
}

// certificates are those of the CAs: the server checks answers with them.
func (p *Publisher) certificates() ([]link.StatusFile, error) {
	f, err := p.CA.keys.SMIME()
	var out []link.StatusFile
	for _, a := range f.All() {
		out = append(out, link.StatusFile{Name: link.IssuerFile(string(a.Name)), Content: a.Certificate.Raw})
	}
	return out, err
}

func (p *Publisher) requeue(certs []learned) {
	for _, l := range certs {
		p.CA.enqueue(l.Serial)
	}
}

// send sends, and puts answers that did not arrive back into the queue.
func (p *Publisher) send(ctx context.Context, r link.StatusRequest) (link.StatusResponse, error) {
	out, err := p.Server.Status(ctx, r)
	if err != nil {
		for _, a := range r.Answers {
			p.CA.enqueue(a.Serial)
		}
		return out, err
	}
	return out, p.take(ctx, out)
}

// sent notes what need not be sent again.
func (p *Publisher) sent(r link.StatusRequest) {
	p.have = p.have[len(r.Have):]
	if r.Review {
		p.reviewAt = p.CA.keys.Now()
	}
	if len(r.Shared) > 0 {
		p.shared = p.sharing
	}
}

// answers signs. The answer of a CA that has ended, or of a certificate that has, is nobody's to ask for.
func (p *Publisher) answers(certs []learned) ([]link.StatusAnswer, error) {
	f, err := p.CA.keys.SMIME()
	if err != nil {
		return nil, err
	}
	now := p.CA.keys.Now()
	var out []link.StatusAnswer
	for _, l := range certs {
		a := f.Named(string(l.CA))
		if a == nil || !now.Before(a.Certificate.NotAfter) || !now.Before(l.NotAfter) {
			continue
		}
		r, err := p.responder(a, now)
		if err != nil {
			return nil, err
		}
		answer, err := r.answer(a, l, now)
		if err != nil {
			return nil, err
		}
		out = append(out, answer)
	}
	return out, nil
}

func (p *Publisher) responder(a *keyring.Authority, now time.Time) (*responder, error) {
	r := p.responders[a.Name]
	if r != nil && (now.Add(responderRest).Before(r.certificate.NotAfter) || r.certificate.NotAfter.Equal(a.Certificate.NotAfter)) {
		return r, nil
	}
	r, err := newResponder(p.CA.keys, a)
	if err == nil {
		p.responders[a.Name] = r
	}
	return r, err
}

// take takes what the server says. CAs come first: what is learnt may be theirs.
func (p *Publisher) take(ctx context.Context, out link.StatusResponse) error {
	p.receive(out.SealedCAs)
	if err := p.learn(out); err != nil {
		return err
	}
	for _, h := range out.Lacks {
		p.CA.enqueue(h.Serial)
	}
	if err := p.due(out.Due); err != nil {
		return err
	}
	p.served = out.CRLNumber
	return p.revoke(ctx, out.Revoked)
}

// receive keeps CAs that another connector shared. What is wrong with them, the log says; this connector's own still work.
func (p *Publisher) receive(sealed []byte) {
	if len(sealed) == 0 {
		return
	}
	sum := sha256.Sum256(sealed)
	name := hex.EncodeToString(sum[:])
	if !p.CA.keys.HasRoot() {
		if err := p.CA.keys.ReceiveAuthorities(sealed); err != nil {
			if name != p.refused { // they come again with each message: the disk may have been full
				p.Logger.Error("the CAs that another connector shared are refused", "error", err)
			}
			p.refused = name
			return
		}
	}
	p.received = name
}

// learn keeps what others did, up to a certificate whose issuing CA has not come yet.
func (p *Publisher) learn(out link.StatusResponse) error {
	f, err := p.CA.keys.SMIME()
	if err != nil {
		return err
	}
	var page []learned
	for _, s := range out.Learned {
		a := f.Named(s.CA)
		if a == nil {
			p.Logger.Warn("another connector issues from a CA that has not come here yet", "ca", s.CA)
			return p.CA.learn(page) // the cursor stays
		}
		l, err := believe(a, s)
		if err != nil {
			p.Logger.Error("an OCSP answer from the server is not what another connector signed", "ca", s.CA, "serial", s.Serial, "error", err)
			continue
		}
		page = append(page, l)
	}
	if err := p.CA.learn(page); err != nil || out.Cursor == p.cursor {
		return err
	}
	p.cursor = out.Cursor
	return p.CA.journal.Put(cursorKey, p.cursor)
}

// due makes answers anew. A certificate that is not known here, since the keyring is older than it, is learnt of.
func (p *Publisher) due(answers []link.StatusAnswer) error {
	f, err := p.CA.keys.SMIME()
	if err != nil {
		return err
	}
	var page []learned
	for _, s := range answers {
		a := f.Named(s.CA)
		if _, known := p.CA.fact(s.Serial); known || a == nil {
			continue
		}
		if l, err := believe(a, s); err == nil {
			page = append(page, l)
		}
	}
	if err := p.CA.learn(page); err != nil {
		return err
	}
	for _, s := range answers {
		p.CA.enqueue(s.Serial)
	}
	return nil
}

// revoke takes the server's word that certificates are revoked: it can add, and the audit log says that it did.
func (p *Publisher) revoke(ctx context.Context, all []link.StatusRevocation) error {
	for _, r := range all {
		cert, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			continue
		}
		if f, known := p.CA.fact(cert.SerialNumber.Text(16)); known && f.Revoked {
			p.CA.enqueue(cert.SerialNumber.Text(16))
			continue
		}
		sum := sha256.Sum256(r.Certificate)
		event := keyring.Event{Action: keyring.ActionRevoke, Certificate: hex.EncodeToString(sum[:]), Detail: "revoked by another connector, by the server's word alone"}
		if err := p.CA.keys.Audit(event); err != nil {
			return err
		}
		at := r.At
		if now := p.CA.keys.Now(); at.IsZero() || at.After(now) {
			at = now
		}
		if _, err := p.CA.Revoke(ctx, r.Certificate, 0, at); err != nil {
			p.Logger.Warn("a certificate that the server says is revoked", "error", err)
		}
	}
	return nil
}

// toShare names what the other connectors shall have: the issuing CAs, and the key set whose members they are.
func (p *Publisher) toShare() string {
	f, err := p.CA.keys.SMIME()
	if err != nil {
		return ""
	}
	set, err := p.CA.keys.KeySet()
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d %d", set.Serial, len(f.Issuing))
}

// share seals the CAs to the other connectors, at a start and whenever there is another CA or connector. Only the keyring
// with the escrow root can.
func (p *Publisher) share() (map[string][]byte, error) {
	if p.sharing = p.toShare(); !p.CA.keys.HasRoot() || p.sharing == p.shared {
		return nil, nil
	}
	return p.CA.keys.ShareWithOthers()
}

// publishLists makes and sends the lists, when there is a revocation more, another CA, or a day is over.
func (p *Publisher) publishLists(ctx context.Context) error {
	for range listTries {
		f, err := p.CA.keys.SMIME()
		if err != nil {
			return err
		}
		now, made := p.CA.keys.Now(), listed{p.CA.count(), len(f.Issuing)}
		if made == p.listed && now.Sub(p.listedAt) < listEvery {
			return nil
		}
		number, err := p.number(now)
		if err != nil {
			return err
		}
		files, err := p.CA.lists(f, number)
		if err != nil {
			return err
		}
		out, err := p.send(ctx, link.StatusRequest{Cursor: p.cursor, Received: p.received, Files: files})
		if err != nil {
			return err
		}
		if !out.Stale && out.CRLNumber == number {
			p.listed, p.listedAt = made, now
			return nil
		}
	}
	return errors.New("other connectors revoke faster than lists can be made here: it is tried again")
}

func (p *Publisher) number(now time.Time) (int64, error) {
	n := listNumber(now, p.served)
	if ahead := n - listNumber(now, 0); ahead > maxAhead {
		return 0, fmt.Errorf("the revocation list on the server is numbered %d, which is %d s ahead of this clock: compare the clocks of server and connectors", p.served, ahead)
	}
	return n, nil
}
