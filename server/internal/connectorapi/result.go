package connectorapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

const (
	firstRetry = time.Second
	maxRetry   = 5 * time.Minute
	maxMessage = 500
)

// retryAfter is the back-off after an attempt: 1 s, 2 s, 4 s … at most 5 min.
func retryAfter(attempt int) time.Duration {
	shift := min(max(attempt-1, 0), 16)
	return min(firstRetry<<shift, maxRetry)
}

// result takes a job's answer. A wrong answer fails the attempt: it is audited and tried again later.
func (s *Service) result(w http.ResponseWriter, r *http.Request, c model.Connector) error {
	var in link.Result
	if err := readJSON(r, &in); err != nil {
		return err
	}
	if err := trusted(c); err != nil {
		return err
	}
	if (in.Error == nil) == (len(in.Answer) == 0) {
		return web.Errorf(http.StatusBadRequest, "a result has either an answer or an error")
	}
	job, err := s.cfg.Store.JobByID(r.Context(), web.Vars(r)["id"])
	if err != nil {
		return err
	}
	if late(c, job, in) && !(issues(job) && in.Error == nil) {
		return web.Errorf(http.StatusConflict, "job %s is not leased to this connector for attempt %d any more; its answer is not needed", job.ID, in.Attempt)
	}
	done, wrong := s.completion(r.Context(), c, job, in)
	if wrong != nil && !isRefusal(wrong) {
		return wrong
	}
	if err := s.complete(r.Context(), done); err != nil {
		return err
	}
	if wrong != nil {
		return web.Errorf(http.StatusUnprocessableEntity, "the answer of job %s is refused: %w", job.ID, wrong)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// late tells that the lease of the answer is over. A certificate that a CA issued is taken even then: the store keeps it
// or has it revoked, so that none exists that nobody knows of.
func late(c model.Connector, job model.Job, in link.Result) bool {
	return job.State != model.JobLeased || job.LeasedBy != c.ID || job.Attempt != in.Attempt
}

func (s *Service) complete(ctx context.Context, done Completion) error {
	err := s.cfg.Store.Complete(ctx, done)
	if errors.Is(err, model.ErrConflict) {
		return web.Hide(http.StatusConflict, "the job was answered by another connector, or its lease ended", err)
	}
	if err != nil {
		return err
	}
	s.stored()
	return nil
}

// stored tells everybody in this process who may wait for what an answer changed.
func (s *Service) stored() {
	s.cfg.Stored()
	s.Notify()
}

// refusal is an answer that is not what was asked for.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func isRefusal(err error) bool {
	var r refusal
	return errors.As(err, &r)
}

// issues tells whether the job's answer is a certificate of a CA: one that is issued is never thrown away.
func issues(j model.Job) bool { return j.Kind == link.JobIssue || j.Kind == link.JobCertify }

func refuse(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

// completion turns a result into its effect. With a refusal it is a failure that tries again.
func (s *Service) completion(ctx context.Context, c model.Connector, job model.Job, in link.Result) (Completion, error) {
	done := Completion{JobID: job.ID, ConnectorID: c.ID, Attempt: in.Attempt, At: s.cfg.Clock()}
	done.Audit = s.entry("connector "+c.ID, "job."+string(job.Kind), jobObject(job), map[string]string{"job": job.ID, "attempt": strconv.Itoa(in.Attempt)})
	if in.Error != nil {
		s.fail(&done, job, *in.Error)
		return done, nil
	}
	if err := s.effect(ctx, &done, job, in.Answer); err != nil {
		if isRefusal(err) {
			s.fail(&done, job, link.JobError{Message: "the connector's answer was refused: " + err.Error()})
		}
		return done, err
	}
	return done, nil
}

func (s *Service) effect(ctx context.Context, done *Completion, job model.Job, answer json.RawMessage) (err error) {
	switch job.Kind {
	case link.JobIdentity:
		done.Identity, err = s.identityEffect(ctx, job, answer)
	case link.JobIssue:
		done.Issued, err = s.issuedEffect(ctx, job, answer)
	case link.JobCertify:
		done.Certified, err = s.certifiedEffect(ctx, job, answer)
	case link.JobTestCA:
		done.Tested, err = testedEffect(answer)
	case link.JobRender:
		done.Rendered, err = s.renderedEffect(job, answer)
	case link.JobRevoke:
		done.Revoked, err = s.revokedEffect(job, answer)
	case link.JobRewrap:
		done.Rewrapped, err = s.rewrappedEffect(ctx, job, answer)
	default:
		err = refuse("jobs of kind %q are not known", job.Kind)
	}
	return err
}

func jobObject(j model.Job) string {
	switch {
	case j.DocumentID != "":
		return "enrolment " + j.EnrolmentID + " document " + j.DocumentID
	case j.EnrolmentID != "":
		return "enrolment " + j.EnrolmentID
	}
	return "job " + j.Key
}

// fail makes the completion a failed attempt.
func (s *Service) fail(done *Completion, job model.Job, e link.JobError) {
	*done = Completion{JobID: done.JobID, ConnectorID: done.ConnectorID, Attempt: done.Attempt, At: done.At, Audit: done.Audit}
	message := printable(e.Message)
	done.Failure = &Failure{Message: message, Final: e.Final, Reason: failureReason(job.Kind, e), RetryAt: done.At.Add(retryAfter(done.Attempt))}
	done.Audit.Outcome = "failed"
	done.Audit.Detail["reason"] = message
	done.Audit.Detail["final"] = strconv.FormatBool(e.Final)
}

func failureReason(kind link.JobKind, e link.JobError) platforms.Reason {
	switch {
	case e.Reason != "" && len(e.Reason) <= 64 && printable(string(e.Reason)) == string(e.Reason):
		return e.Reason
	case kind == link.JobRender:
		return platforms.ReasonRenderFailed
	case (kind == link.JobIssue || kind == link.JobCertify) && e.Final:
		return platforms.ReasonIssueRefused
	case kind == link.JobIssue || kind == link.JobCertify:
		return platforms.ReasonIssuePending
	}
	return ""
}

// printable bounds foreign text.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}

func decodeAnswer[T any](raw json.RawMessage) (T, error) {
	var answer T
	if err := decodeStrict(bytes.NewReader(raw), &answer); err != nil {
		return answer, refuse("it is not the JSON of this kind of answer: %w", err)
	}
	return answer, nil
}

// decodePayload reads what this server stored; a fault in it is ours.
func decodePayload[T any](job model.Job) (T, error) {
	var payload T
	if err := json.Unmarshal(job.Payload, &payload); err != nil {
		return payload, fmt.Errorf("reading the payload of job %s: %w", job.ID, err)
	}
	return payload, nil
}

// audit writes an entry of its own; a failing log does not change the answer.
func (s *Service) audit(ctx context.Context, e model.AuditEntry) {
	a, ok := s.cfg.Store.(interface {
		AppendAudit(ctx context.Context, entries ...model.AuditEntry) error
	})
	if !ok {
		return
	}
	if err := a.AppendAudit(ctx, e); err != nil {
		s.cfg.Logger.ErrorContext(ctx, "writing the audit log failed", "action", e.Action, "error", err.Error())
	}
}
