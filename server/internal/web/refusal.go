package web

import (
	"context"
	"log/slog"
	"time"

	"github.com/waxseal/waxseal/server/internal/model"
)

// Auditor appends entries to the audit log, durable on return.
type Auditor interface {
	AppendAudit(ctx context.Context, entries ...model.AuditEntry) error
}

// Refusals writes down what was refused. A stranger must not be able to fill the disk, so that each address gets a
// bounded number of audit entries; what is beyond is in the request log only.
type Refusals struct {
	audit   Auditor
	logger  *slog.Logger
	clock   func() time.Time
	limiter *Limiter
}

// maxReason bounds what a stranger can make us write.
const maxReason = 500

// NewRefusals makes one; a node needs one only.
func NewRefusals(audit Auditor, logger *slog.Logger, clock func() time.Time) *Refusals {
	if clock == nil {
		clock = time.Now
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Refusals{audit: audit, logger: logger, clock: clock, limiter: NewLimiter(0.1, 100, clock)}
}

// Note audits a refusal. detail may be nil and holds no secret. It never fails: a refused request stays refused when the
// database does not answer.
func (r *Refusals) Note(ctx context.Context, actor, action, object, reason string, detail map[string]string) {
	if !r.limiter.Allow(Remote(ctx)) {
		return
	}
	if r := []rune(reason); len(r) > maxReason { // names in foreign certificates may be long
		reason = string(r[:maxReason]) + "…"
	}
	entry := model.AuditEntry{At: r.clock(), Actor: actor, Action: action, Object: object, Outcome: "refused",
		Detail: map[string]string{"reason": reason, "remote": Remote(ctx).String(), "request": RequestID(ctx)}}
	for k, v := range detail {
		entry.Detail[k] = v
	}
	if err := r.audit.AppendAudit(ctx, entry); err != nil {
		r.logger.ErrorContext(ctx, "auditing a refusal", "action", action, "error", err)
	}
}
