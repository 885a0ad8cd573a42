// Package worker takes jobs from the server and answers them. The server is not trusted: what a job says is checked
// against what the keyring knows, and a private key leaves only encrypted to a device certificate of the connector's own
// device CA that names the key's owner.
//
//	claim → lease → work (journal before each irreversible act) → result
//
//	killed before the journal entry   the job is leased again and starts afresh
//	killed after it                   the repeated job finds the entry and gives the same answer
//	result lost                       as before: the answer is the same
//	answered by another               409, not an error
package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
)

// CA is a certification authority that the worker can issue from.
//
// Issue gives the chain, leaf first. It is idempotent by Intent.ID: the same intent and key give the same certificate,
// also after a restart. A *ca.RefusedError is final; any other error may pass.
// Revoke is idempotent: repeated, it gives the first time. ca.ErrForeign: not a certificate of this CA.
// Test tells what is right and wrong in the CA's settings; nothing is issued.
type CA interface {
	Info() link.CA
	Test(ctx context.Context) []link.CAFinding
	Issue(ctx context.Context, in ca.Intent) ([][]byte, error)
	Revoke(ctx context.Context, certificate []byte, reason int, at time.Time) (time.Time, error)
}

// Authorities finds a CA by what profiles call it, as its settings are now. ca.ErrUnknown: there is none of that name.
type Authorities interface {
	Named(name string) (CA, error)
}

// Server is what the worker needs of the link.
type Server interface {
	Claim(ctx context.Context, r link.ClaimRequest) ([]link.Job, error)
	Result(ctx context.Context, jobID string, r link.Result) error
}

// Worker works. All fields are needed but Offers, Concurrency, ModernPKCS12 and Once.
type Worker struct {
	Keyring *keyring.Keyring
	Journal *journal.Journal
	CAs     Authorities
	Server  Server
	// Sync learns the newest key set and publishes; called before a record is re-wrapped, and now and then.
	Sync func(ctx context.Context) error
	// Offers is a digest of the CAs of others that the keyring has; when it changes, the server has to hear of it. Nil: none has.
	Offers func() string
	Logger *slog.Logger
	Clock  func() time.Time
	Rand   io.Reader
	// Sleep waits or gives the context's error.
	Sleep func(ctx context.Context, d time.Duration) error
	// Concurrency is how many jobs are worked on at once; 0 means 4.
	Concurrency int
	// ModernPKCS12 lets devices that can read it have the newer PKCS#12.
	ModernPKCS12 bool
	// Once ends Run when the server has no job.
	Once bool

	locks     keyedLocks
	lastSync  time.Time
	offered   string
	lastPrune time.Time
}

const (
	claimWait   = 25 // seconds, the most that the server holds a claim
	firstPause  = 500 * time.Millisecond
	longPause   = 30 * time.Second
	resultTries = 5
	// syncEvery renews what the server has from here: RA certificate, key set.
	syncEvery = 10 * time.Minute
	// pruneEvery takes keys out of the journal that are not needed any more.
	pruneEvery = 24 * time.Hour
	// shortClaim is how soon an empty answer to a claim is a server that does not wait.
	shortClaim = time.Second
	// grace is what a job in work gets when the process shall end.
	grace = 10 * time.Second
)

// Run works until ctx ends, or with Once until there is no job. A server that cannot be reached is asked again, later
// and later.
func (w *Worker) Run(ctx context.Context) error {
	failures := 0
	w.lastSync, w.offered = w.Clock(), w.offers()
	for ctx.Err() == nil {
		w.syncNowAndThen(ctx)
		w.pruneNowAndThen()
		asked := w.Clock()
		jobs, err := w.claim(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && w.Once:
			return err
		case err != nil:
			w.Logger.Warn("the server gives no jobs", "error", err)
			if w.Sleep(ctx, w.pause(failures)) != nil {
				return nil
			}
			failures++
			continue
		}
		failures = 0
		w.workAll(ctx, jobs)
		if w.Once && len(jobs) == 0 {
			return nil
		}
		if len(jobs) == 0 && w.Clock().Sub(asked) < shortClaim && w.Sleep(ctx, w.pause(0)) != nil {
			return nil
		}
	}
	return nil
}

// pruneNowAndThen runs at the start and daily. A fault in it keeps nobody from work.
func (w *Worker) pruneNowAndThen() {
	now := w.Clock()
	if !w.lastPrune.IsZero() && now.Sub(w.lastPrune) < pruneEvery {
		return
	}
	w.lastPrune = now
	if err := w.prune(); err != nil {
		w.Logger.Warn("tidying the journal", "error", err)
	}
}

// syncNowAndThen also tells the server of CAs that were set while it was down.
func (w *Worker) syncNowAndThen(ctx context.Context) {
	now, offers := w.Clock(), w.offers()
	if now.Sub(w.lastSync) < syncEvery && offers == w.offered {
		return
	}
	w.lastSync = now
	if err := w.Sync(ctx); err == nil {
		w.offered = offers
	} else if ctx.Err() == nil {
		w.Logger.Warn("syncing with the server", "error", err)
	}
}

func (w *Worker) offers() string {
	if w.Offers == nil {
		return ""
	}
	return w.Offers()
}

func (w *Worker) claim(ctx context.Context) ([]link.Job, error) {
	r := link.ClaimRequest{Max: w.concurrency(), WaitSeconds: claimWait}
	if w.Once {
		r.WaitSeconds = 0
	}
	jobs, err := w.Server.Claim(ctx, r)
	return jobs[:min(len(jobs), r.Max)], err // what is more than was asked for comes again when its lease ends
}

func (w *Worker) concurrency() int {
	if w.Concurrency > 0 {
		return w.Concurrency
	}
	return 4
}

// pause doubles up to longPause; half of it is left to chance, so that connectors do not come back all at once.
func (w *Worker) pause(failures int) time.Duration {
	d := longPause
	if failures < 6 {
		d = firstPause << failures
	}
	var b [1]byte
	_, _ = io.ReadFull(w.Rand, b[:])
	return d/2 + d/2*time.Duration(b[0])/255
}

// workAll works on jobs side by side and waits for all. A job that was begun is finished even if the process shall end.
func (w *Worker) workAll(ctx context.Context, jobs []link.Job) {
	ctx, cancel := graceful(ctx)
	defer cancel()
	var wait sync.WaitGroup
	for _, job := range jobs {
		wait.Go(func() { w.work(ctx, job) })
	}
	wait.Wait()
}

// graceful gives a context that ends a while after its parent.
func graceful(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() { time.AfterFunc(grace, cancel) })
	return ctx, func() { stop(); cancel() }
}

func (w *Worker) work(ctx context.Context, job link.Job) {
	log := w.Logger.With("job", job.ID, "kind", job.Kind, "attempt", job.Attempt)
	answer, err := w.do(ctx, job)
	result := link.Result{Attempt: job.Attempt, Answer: answer}
	if err != nil {
		result.Answer, result.Error = nil, jobError(err)
		log.Warn("job not done", "error", err, "final", result.Error.Final)
	}
	if err := w.send(ctx, job, result); err != nil {
		log.Warn("the answer did not reach the server", "error", err)
		return
	}
	if err == nil && job.Kind == link.JobIssue {
		w.settle(log, job)
	}
	log.Info("job answered", "ok", err == nil)
}

// settle lets go of the key that the server has accepted.
func (w *Worker) settle(log *slog.Logger, job link.Job) {
	var p link.IssueJob
	err := json.Unmarshal(job.Payload, &p)
	if err == nil {
		err = w.accepted(p)
	}
	if err != nil {
		log.Warn("the journal still holds a sealed key that the server has accepted", "error", err)
	}
}

// send answers, a few times; after that the lease runs out and the job comes again.
func (w *Worker) send(ctx context.Context, job link.Job, result link.Result) error {
	for try := 0; ; try++ {
		err := w.Server.Result(ctx, job.ID, result)
		if err == nil || try+1 == resultTries || refused(err) {
			return err
		}
		if w.Sleep(ctx, w.pause(try)) != nil {
			return err
		}
	}
}

// refused tells whether the server understood and said no: the same answer again would meet the same word.
func refused(err error) bool {
	var e *link.StatusError
	return errors.As(err, &e) && e.Status >= 400 && e.Status < 500 && e.Status != http.StatusTooManyRequests
}

// do works on one job. What foreign bytes make a parser do must not end the connector.
func (w *Worker) do(ctx context.Context, job link.Job) (answer json.RawMessage, err error) {
	defer func() {
		if r := recover(); r != nil {
			w.Logger.Error("a job broke the worker", "job", job.ID, "kind", job.Kind, "stack", string(debug.Stack()))
			answer, err = nil, errors.New("internal error: see the connector's log")
		}
	}()
	switch job.Kind {
	case link.JobIdentity:
		return handle(ctx, job, w.identity)
	case link.JobIssue:
		return handle(ctx, job, w.issue)
	case link.JobRender:
		return handle(ctx, job, w.render)
	case link.JobRevoke:
		return handle(ctx, job, w.revoke)
	case link.JobRewrap:
		return handle(ctx, job, w.rewrap)
	case link.JobCertify:
		return handle(ctx, job, w.certify)
	case link.JobTestCA:
		return handle(ctx, job, w.testCA)
	}
	return nil, final("", "this connector does not know jobs of kind %q: it may be older than the server", job.Kind)
}

// handle decodes the payload for one kind of job and encodes its answer.
func handle[P, A any](ctx context.Context, job link.Job, do func(context.Context, link.Job, P) (A, error)) (json.RawMessage, error) {
	var payload P
	if err := json.Unmarshal(job.Payload, &payload); err != nil {
		return nil, final("", "the job's payload does not parse: %v", err)
	}
	answer, err := do(ctx, job, payload)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

// finalError is an error that trying again cannot help.
type finalError struct {
	reason platforms.Reason
	err    error
}

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

// waitError is an error that passes, with the reason that explain shows until it does.
type waitError struct {
	reason platforms.Reason
	err    error
}

func (e *waitError) Error() string { return e.err.Error() }
func (e *waitError) Unwrap() error { return e.err }

func final(reason platforms.Reason, format string, args ...any) error {
	return &finalError{reason: reason, err: fmt.Errorf(format, args...)}
}

// jobError is what the server hears.
func jobError(err error) *link.JobError {
	out := &link.JobError{Message: err.Error()}
	var f *finalError
	var waits *waitError
	var refused *ca.RefusedError
	switch {
	case errors.As(err, &waits):
		out.Reason = waits.reason
	case errors.As(err, &f):
		out.Final, out.Reason = true, f.reason
	case errors.As(err, &refused):
		out.Final = true
	}
	return out
}

// keyedLocks lets one goroutine at a time work under a key.
type keyedLocks struct {
	mu    sync.Mutex
	locks map[string]*keyedLock
}

type keyedLock struct {
	sync.Mutex
	users int
}

// lock waits for the key and gives the function that frees it.
func (l *keyedLocks) lock(key string) (unlock func()) {
	l.mu.Lock()
	if l.locks == nil {
		l.locks = map[string]*keyedLock{}
	}
	k := l.locks[key]
	if k == nil {
		k = &keyedLock{}
		l.locks[key] = k
	}
	k.users++
	l.mu.Unlock()
	k.Lock()
	return func() {
		k.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.locks, key)
		}
	}
}
