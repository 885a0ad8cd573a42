package applemdm

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/sender"
	"github.com/waxseal/waxseal/server/internal/web"
)

const profileType = "application/x-apple-aspen-config"

// enroll serves a link: a page for a person with a browser, the profile for everybody else. Opening the page has no
// effect; a download makes a challenge.
func (e *Endpoint) enroll(w http.ResponseWriter, r *http.Request) error {
	if !wantsHTML(r) {
		return e.download(w, r)
	}
	private(w)
	token := web.Vars(r)["token"]
	l, err := e.link(r.Context(), token, profiles.Android)
	if err != nil {
		return e.deadLink(w, r, l, err)
	}
	return render(w, http.StatusOK, page{Organization: e.cfg.Organization, Download: token + "/enroll.mobileconfig",
		Platform: string(l.Platform), Device: deviceNamed(l.Platform), Until: l.ExpiresAt.UTC().Format("2 January 2006 15:04 MST"), NoPush: e.cfg.PushTopic == ""})
}

func deviceNamed(p profiles.Platform) string {
	if p == profiles.Android {
		return "Android device"
	}
	return apple.DeviceName(p)
}

// link reads the link of a token; the secrets of Windows are no links here, and Android's have a page only.
func (e *Endpoint) link(ctx context.Context, token string, pages ...profiles.Platform) (model.Link, error) {
	l, err := e.cfg.Identity.Link(ctx, token)
	if l.Platform != "" && l.Platform != profiles.IOS && l.Platform != profiles.MacOS && !slices.Contains(pages, l.Platform) {
		return model.Link{}, model.ErrNotFound
	}
	return l, err
}

// download serves the enrolment profile with a fresh challenge.
func (e *Endpoint) download(w http.ResponseWriter, r *http.Request) error {
	private(w)
	ctx, token := r.Context(), web.Vars(r)["token"]
	l, err := e.link(ctx, token)
	if err != nil {
		return e.deadLink(w, r, l, err)
	}
	if err := e.refuseOtherKind(r, l); err != nil {
		return err
	}
	if err := e.ready(ctx); err != nil {
		return err
	}
	w.Header().Set("Content-Type", profileType)
	w.Header().Set("Content-Disposition", `attachment; filename="enroll.mobileconfig"`)
	if r.Method == http.MethodHead {
		return nil
	}
	profile, err := e.profile(ctx, token)
	if err != nil {
		w.Header().Del("Content-Disposition")
		return e.deadLink(w, r, l, err)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(profile)))
	_, _ = w.Write(profile) // lost on the way: another download makes another challenge
	return nil
}

func (e *Endpoint) profile(ctx context.Context, token string) ([]byte, error) {
	challenge, enrolmentID, err := e.cfg.Identity.Profile(ctx, token)
	if err != nil {
		return nil, err
	}
	web.Annotate(ctx, enrolmentID, "")
	return e.cfg.Profile(challenge, enrolmentID)
}

// ready reports whether a device that takes the profile now could get a certificate.
func (e *Endpoint) ready(ctx context.Context) error {
	_, err := e.cfg.Authority.DeviceCA(ctx)
	if err == nil {
		_, err = e.cfg.Authority.RA(ctx)
	}
	if errors.Is(err, model.ErrNotFound) {
		return web.Hide(http.StatusServiceUnavailable, sender.NoConnector, err)
	}
	return err
}

// deadLink says what a link that does not work is, and what to do.
func (e *Endpoint) deadLink(w http.ResponseWriter, r *http.Request, l model.Link, err error) error {
	status, sentence := http.StatusGone, ""
	switch {
	case errors.Is(err, model.ErrSpent):
		sentence = "This enrolment link was used by a device already. A link works for one device; ask your administrator for a new one."
	case errors.Is(err, model.ErrExpired):
		sentence = "This enrolment link has expired. Ask your administrator for a new one."
	case errors.Is(err, model.ErrNotFound):
		status, sentence = http.StatusNotFound, "This enrolment link is not known here. Check that it was copied whole, or ask your administrator for a new one."
	default:
		return err
	}
	if l.ID != "" {
		e.cfg.Refusals.Note(r.Context(), "unknown device", "link.open", l.ID, sentence, nil)
	}
	if wantsHTML(r) {
		return render(w, status, page{Organization: e.cfg.Organization, Sentence: sentence})
	}
	return web.Hide(status, sentence, err)
}

// private keeps the token of a link's address out of caches, referrers and frames.
func private(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Add("Vary", "Accept")
}

// wantsHTML reports whether Accept names text/html with a quality above zero.
func wantsHTML(r *http.Request) bool {
	for _, part := range strings.Split(strings.Join(r.Header.Values("Accept"), ","), ",") {
		kind, params, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(kind), "text/html") {
			continue
		}
		return !refusedQuality(params)
	}
	return false
}

func refusedQuality(params string) bool {
	for _, p := range strings.Split(params, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(key, "q") {
			q, err := strconv.ParseFloat(value, 64)
			return err == nil && q == 0
		}
	}
	return false
}

// help is for people who open the MDM address in a browser.
func help(w http.ResponseWriter, _ *http.Request) error {
	private(w)
	return render(w, http.StatusOK, page{Sentence: "Managed devices speak to this address by themselves. To enrol a device, open the enrolment link that your administrator sent you."})
}
