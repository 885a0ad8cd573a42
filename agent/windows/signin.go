package windows

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
)

// appRU is the address by which the Settings app is told the token (windows.md section 1.4).
const appRU = "ms-app://windows.immersivecontrolpanel"

// maxPages bounds a sign-in.
const maxPages = 10

// webView is the browser in which the user signs in. It fills in what a person would: user name and secret.
type webView struct {
	client       *http.Client
	user, secret string
}

// signIn goes through the server's pages until one hands over the token: a form that is posted to appru with a hidden
// field wresult (windows.md section 1.4).
func (e *enrolling) signIn(ctx context.Context, where string) (string, error) {
	u, err := httpsURL("AuthenticationServiceUrl", where)
	if err != nil {
		return "", err
	}
	query := u.Query()
	query.Set("appru", appRU)
	query.Set("login_hint", e.user)
	u.RawQuery = query.Encode()
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	v := &webView{client: e.device.newClient(nil), user: e.user, secret: e.device.cfg.Secret}
	v.client.Jar, v.client.CheckRedirect = jar, onlyHTTPS
	defer v.client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", errors.New("AuthenticationServiceUrl is malformed")
	}
	return v.browse(ctx, req)
}

func onlyHTTPS(req *http.Request, via []*http.Request) error {
	if req.URL.Scheme != "https" || len(via) > maxRedirects {
		return errors.New("the sign-in page redirects to an address that is not https, or too often")
	}
	return nil
}

// browse opens pages and sends forms until the token is there. A page that asks for the secret again has refused it.
func (v *webView) browse(ctx context.Context, req *http.Request) (string, error) {
	asked := false
	for range maxPages {
		page, at, status, err := v.open(req)
		if err != nil {
			return "", err
		}
		found := forms(page)
		if token, there, err := handedOver(found); there || err != nil {
			return token, err
		}
		f, secret := v.fill(found)
		if f == nil || status != http.StatusOK || asked && secret {
			return "", fmt.Errorf("signing in failed; the page (%d) says: %s", status, text(page))
		}
		asked = asked || secret
		if req, err = f.submit(ctx, at); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("the sign-in has more than %d pages", maxPages)
}

func (v *webView) open(req *http.Request) (page string, at *url.URL, status int, err error) {
	req.Header.Set("User-Agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Edge/18.22631")
	req.Header.Set("Accept", "text/html, application/xhtml+xml, */*")
	resp, err := v.client.Do(req)
	if err != nil {
		return "", nil, 0, fmt.Errorf("opening the sign-in page: %w", withoutURL(err))
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	if err != nil || len(body) > maxPage {
		return "", nil, 0, errors.Join(errors.New("the sign-in page cannot be read, or is too long"), err)
	}
	return string(body), resp.Request.URL, resp.StatusCode, nil
}

// handedOver looks for the last page.
func handedOver(found []form) (token string, there bool, err error) {
	for _, f := range found {
		if !strings.HasPrefix(f.action, "ms-app:") {
			continue
		}
		if f.action != appRU || f.method != "post" {
			return "", true, fmt.Errorf("the last page of the sign-in must have a form of method post whose action is exactly %s", appRU)
		}
		for _, in := range f.fields {
			if in.name == "wresult" && in.value != "" {
				return in.value, true, nil
			}
		}
		return "", true, errors.New("the last page of the sign-in has no hidden field wresult with the token")
	}
	return "", false, nil
}

// fill writes user name and secret into the first form that can be posted, and reports whether the secret went in.
func (v *webView) fill(found []form) (out *form, secret bool) {
	for n := range found {
		f := &found[n]
		if f.method != "post" {
			continue
		}
		for m := range f.fields {
			in := &f.fields[m]
			switch in.role() {
			case roleSecret:
				in.value, secret = v.secret, true
			case roleUser:
				in.value = v.user
			}
		}
		return f, secret
	}
	return nil, false
}

// role is what a person takes a field for.
type role int

const (
	roleOther role = iota
	roleUser
	roleSecret
)

func (f field) role() role {
	name := strings.ToLower(f.name + " " + f.id)
	switch f.kind {
	case "password":
		return roleSecret
	case "email":
		return roleUser
	case "text":
		for _, word := range []string{"secret", "code", "pass", "token", "pin"} {
			if strings.Contains(name, word) {
				return roleSecret
			}
		}
		return roleUser
	}
	return roleOther
}

// submit makes the request that a browser makes of a form.
func (f *form) submit(ctx context.Context, at *url.URL) (*http.Request, error) {
	to, err := at.Parse(f.action)
	if err != nil || to.Scheme != "https" {
		return nil, errors.New("the form of the sign-in page must be sent to an https URL")
	}
	values := url.Values{}
	button := false
	for _, in := range f.fields {
		switch {
		case in.name == "", in.kind == "reset", in.kind == "button", in.kind == "image":
		case in.kind == "submit" && button, (in.kind == "checkbox" || in.kind == "radio") && !in.checked:
		default:
			button = button || in.kind == "submit"
			values.Add(in.name, in.value)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), strings.NewReader(values.Encode()))
	if err != nil {
		return nil, errors.New("the form of the sign-in page has a malformed address")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", at.Scheme+"://"+at.Host)
	return req, nil
}
