package apple

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// maxProfile bounds a profile that is downloaded.
const maxProfile = 8 << 20

// Enroll makes a device in Config.State, or takes the one that is there, and enrols it with the profile that
// Config.Source names. The device is open afterwards and must be closed.
func Enroll(ctx context.Context, cfg Config) (*Device, error) {
	d, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	if err := d.Enroll(ctx, cfg.Source); err != nil {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

// Enroll enrols the device with the profile at an https URL or in a file.
func (d *Device) Enroll(ctx context.Context, source string) error {
	if d.Enrolled() {
		return fmt.Errorf("the device is enrolled already, by profile %s; unenroll it first", d.state.MDM.Profile)
	}
	data, err := d.fetch(ctx, source)
	if err != nil {
		return err
	}
	p, err := parseProfile(data, d.keys)
	if err != nil {
		return fmt.Errorf("installing the enrolment profile: %w", err)
	}
	if p.first(kindMDM) == nil {
		return fmt.Errorf("the profile %q has no com.apple.mdm payload, so that it enrols nothing", p.name())
	}
	if err := d.install(ctx, data, false); err != nil {
		return fmt.Errorf("installing the enrolment profile: %w", err)
	}
	return d.giveBootstrap(ctx)
}

// fetch reads a profile from a URL or a file.
func (d *Device) fetch(ctx context.Context, source string) ([]byte, error) {
	if source == "" {
		return nil, errors.New("no enrolment profile given: name a URL or a .mobileconfig file")
	}
	u, err := url.Parse(source)
	if err == nil && (u.Scheme == "https" || u.Scheme == "http") {
		return d.download(ctx, u)
	}
	data, err := os.ReadFile(source)
	if err != nil {
		return nil, fmt.Errorf("reading the enrolment profile: %w", err)
	}
	return data, nil
}

// download gets a profile as Safari's download does, once the user has tapped on it.
func (d *Device) download(ctx context.Context, u *url.URL) ([]byte, error) {
	if u.Scheme != "https" {
		return nil, errors.New("an enrolment profile comes by https only")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("the address of the enrolment profile is malformed")
	}
	req.Header.Set("Accept", "*/*")
	req.Header.Set("User-Agent", "Mozilla/5.0 ("+d.state.ModelName+"; CPU OS "+strings.ReplaceAll(d.state.OSVersion, ".", "_")+" like Mac OS X) AppleWebKit/605.1.15 Safari/604.1")
	client := d.plainClient(nil)
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("downloading the enrolment profile: %w", withoutURL(err))
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProfile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("downloading the enrolment profile: %w", err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("downloading the enrolment profile: the server answers %s%s", resp.Status, hint(body))
	case len(body) > maxProfile:
		return nil, fmt.Errorf("the enrolment profile is longer than %d bytes", maxProfile)
	}
	return body, looksLikeProfile(resp.Header.Get("Content-Type"), body)
}

// looksLikeProfile takes a profile whatever it is called, but not a web page.
func looksLikeProfile(contentType string, body []byte) error {
	kind, _, _ := mime.ParseMediaType(contentType) //nolint:errcheck // a malformed type is as good as none
	if kind == "text/html" || len(body) == 0 {
		return fmt.Errorf("the server sent no configuration profile but %q; application/x-apple-aspen-config is right", contentType)
	}
	return nil
}
