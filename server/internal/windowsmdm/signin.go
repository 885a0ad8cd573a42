package windowsmdm

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/sender"
	"github.com/waxseal/waxseal/server/internal/web"
)

// signInAudit is what refused sign-ins are called in the audit log.
const signInAudit = "mde.signin"

const foreignAddress = "This page was asked to hand its answer to an address that is not a part of Windows, so it does not go on. " +
	"Start again in Settings, Accounts, Access work or school."

// signInPage asks for user name and secret (windows.md section 1.4). Opening it has no effect.
func (e *Endpoint) signInPage(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	appru := query.Get("appru")
	if err := e.checkAppRU(appru); err != nil {
		return e.foreign(w, r, appru, err)
	}
	return e.render(w, http.StatusOK, page{AppRU: appru, User: cut(query.Get("login_hint"))})
}

// signIn exchanges user name and secret for a token, which the last page hands to Windows. There is no cookie and no
// session: the form carries everything, so a page of somebody else's that posts here gains nothing, as it would need
// the secret.
func (e *Endpoint) signIn(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return e.render(w, http.StatusBadRequest, page{Sentence: "The form did not arrive whole. Go back and send it again."})
	}
	form := r.PostForm
	appru := form.Get("appru")
	if err := e.checkAppRU(appru); err != nil {
		return e.foreign(w, r, appru, err)
	}
	token, err := e.token(r.Context(), form.Get("user"), form.Get("secret"))
	if err != nil {
		return e.notSignedIn(w, r, form, err)
	}
	return e.last(w, appru, token)
}

// token checks user name and secret and starts an enrolment of that user.
func (e *Endpoint) token(ctx context.Context, user, secret string) (string, error) {
	if _, err := e.cfg.Identity.Login(ctx, user, secret); err != nil {
		return "", err
	}
	if err := e.ready(ctx); err != nil {
		return "", notReady(err)
	}
	token, enrolmentID, err := e.cfg.Identity.Profile(ctx, identity.Secret(secret))
	if err == nil {
		web.Annotate(ctx, enrolmentID, "")
	}
	return token, err
}

// notSignedIn shows the form again with what was wrong. The secret is not in it, nor in the audit log; the user name is
// not either, since people type one field into the other.
func (e *Endpoint) notSignedIn(w http.ResponseWriter, r *http.Request, form url.Values, err error) error {
	var refusal *identity.Refusal
	var f *fault
	p := page{AppRU: form.Get("appru"), User: cut(form.Get("user"))}
	switch {
	case errors.As(err, &refusal):
		p.Wrong = "The user name and the enrolment secret do not belong together. Your administrator gave you both."
	case errors.Is(err, model.ErrSpent):
		p.Wrong = spentLink
	case errors.Is(err, model.ErrExpired):
		p.Wrong = expiredLink
	case errors.As(err, &f):
		return e.render(w, http.StatusServiceUnavailable, page{Sentence: "This server cannot enrol devices yet: " + sender.NoConnector + "."})
	default:
		return err
	}
	e.cfg.Refusals.Note(r.Context(), actor(""), signInAudit, "", p.Wrong, nil)
	return e.render(w, http.StatusForbidden, p)
}

// checkAppRU lets a token go to the addresses of the configuration only: whoever gets it can enrol a device of that user.
func (e *Endpoint) checkAppRU(appru string) error {
	if err := mde.CheckAppRU(appru); err != nil {
		return err
	}
	if !slices.ContainsFunc(e.cfg.AppRUs, func(known string) bool { return e.leadsTo(appru, known) }) {
		return errors.New("appru is none of the addresses that a token may go to")
	}
	return nil
}

// leadsTo compares whole addresses; with AppRUPrefix, those below a known one count too, but no longer host name does.
func (e *Endpoint) leadsTo(appru, known string) bool {
	rest, below := strings.CutPrefix(appru, known)
	return below && (rest == "" || e.cfg.AppRUPrefix && (strings.HasSuffix(known, "/") || strings.ContainsAny(rest[:1], "/?#")))
}

func (e *Endpoint) foreign(w http.ResponseWriter, r *http.Request, appru string, err error) error {
	e.cfg.Refusals.Note(r.Context(), actor(""), signInAudit, "", err.Error(), map[string]string{"appru": cut(appru)})
	return e.render(w, http.StatusBadRequest, page{Sentence: foreignAddress})
}

// last writes the page that hands the token to Windows.
func (e *Endpoint) last(w http.ResponseWriter, appru, token string) error {
	var b [16]byte
	if _, err := io.ReadFull(e.cfg.Rand, b[:]); err != nil {
		return fmt.Errorf("making the nonce of a page: %w", err)
	}
	return e.render(w, http.StatusOK, page{AppRU: appru, Token: token, Nonce: base64.StdEncoding.EncodeToString(b[:])})
}
