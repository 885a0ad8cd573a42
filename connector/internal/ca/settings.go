package ca

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/clock"
)

// Settings say where a CA of others is and how to speak with it. They hold secrets: on the disk they are sealed to the
// connector, and nothing prints Options.
type Settings struct {
	// Name is what profiles call the CA.
	Name string `json:"name"`
	// Kind is the protocol: scep, est, acme, stepca, adcs, digicert, digicert-legacy.
	Kind string `json:"kind"`
	URL  string `json:"url"`
	// TLSRoots (PEM) are what the URL's own certificate must lead to; empty: the system's.
	TLSRoots string `json:"tlsRoots,omitempty"`
	// Issuers (PEM) are the CA certificates that issued certificates lead to, issuing CA and up to the root.
	Issuers string `json:"issuers"`
	// Templates are the words that profiles may use for template; empty: profiles name none.
	Templates []string `json:"templates,omitempty"`
	// Options are the kind's own; a field nameFile of the admin's file has become the content under name.
	Options json.RawMessage `json:"options,omitempty"`
}

// Env is what an adapter works with.
type Env struct {
	Clock  func() time.Time
	Rand   io.Reader
	Logger *slog.Logger
}

// name is what may be a CA's name: it becomes a file's.
var name = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// Check says what is wrong with the settings that all kinds share.
func (s Settings) Check() error {
	if !name.MatchString(s.Name) {
		return fmt.Errorf("name %q: it is 1 to 63 lower-case letters, digits and hyphens, the first no hyphen", s.Name)
	}
	if s.Name == "softca" || strings.HasPrefix(s.Name, "softca-") || s.Name == "device-ca" {
		return fmt.Errorf("name %q: that is the connector's own CA", s.Name)
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return fmt.Errorf("url %q: it looks like https://ca.corp.test/path, without a user", s.URL)
	}
	if _, err := s.IssuerCertificates(); err != nil {
		return err
	}
	return nil
}

// IssuerCertificates are the CA's certificates, in the order of the file.
func (s Settings) IssuerCertificates() ([]*x509.Certificate, error) {
	certs, err := Certificates([]byte(s.Issuers))
	if err != nil {
		return nil, fmt.Errorf("issuers: %w", err)
	}
	if len(certs) == 0 {
		if s.Issuers != "" {
			return nil, errors.New("issuersFile: there is no certificate in it; it is a PEM file with those of the issuing CA and its root")
		}
		return nil, errors.New("issuersFile is missing: it names a PEM file with the certificates of the issuing CA and its root")
	}
	for _, c := range certs {
		if !c.IsCA {
			return nil, fmt.Errorf("issuers: %s is no certificate of a CA", c.Subject)
		}
	}
	return certs, nil
}

// Certificates parses a PEM file.
func Certificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return out, nil
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the file holds a %s beside certificates", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d does not parse: %w", len(out)+1, err)
		}
		out = append(out, cert)
	}
}

// DecodeOptions reads the kind's own options; an unknown one is an error that names it.
func (s Settings) DecodeOptions(into any) error {
	if len(s.Options) == 0 {
		return nil
	}
	if err := Decode(s.Options, into); err != nil {
		return fmt.Errorf("options of CA %s: %w", s.Name, err)
	}
	return nil
}

// Decode reads a JSON object into a struct, and is strict: a word that is not understood would be a wish that is not met.
// All words that the struct has no field for are named at once.
func Decode(raw []byte, into any) error {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(raw, &given); err != nil {
		return err
	}
	known, unknown := fields(reflect.TypeOf(into).Elem()), []string{}
	for name := range given {
		if !slices.Contains(known, name) {
			unknown = append(unknown, strconv.Quote(name))
		}
	}
	if slices.Sort(unknown); len(unknown) > 0 {
		return fmt.Errorf("unknown: %s. Known here are %s; NAMEFile gives what NAME needs in a file of its own", strings.Join(unknown, ", "), strings.Join(known, ", "))
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// fields are the JSON names of a struct's fields.
func fields(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			names = append(names, fields(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// Client speaks HTTP with the CA: TLS to the roots of the settings, perhaps with a certificate of the connector's own, each
// call ended after a minute. Redirections are answers, so that no credential travels to another host.
func (s Settings) Client(own *tls.Certificate) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, Time: clock.Now}
	if s.TLSRoots != "" {
		roots, err := Certificates([]byte(s.TLSRoots))
		if err == nil && len(roots) == 0 {
			err = errors.New("there is none in it")
		}
		if err != nil {
			return nil, fmt.Errorf("tlsRoots of CA %s: it is a PEM file of certificates: %w", s.Name, err)
		}
		config.RootCAs = x509.NewCertPool()
		for _, c := range roots {
			config.RootCAs.AddCert(c)
		}
	}
	if own != nil {
		config.Certificates = []tls.Certificate{*own}
	}
	return &http.Client{
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 50 * time.Second, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 4},
	}, nil
}

// MaxAnswer bounds what is read of a CA's answer.
const MaxAnswer = 1 << 20

// ReadAnswer reads a body of bounded size.
func ReadAnswer(body io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(body, MaxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading the CA's answer: %w", err)
	}
	if len(data) > MaxAnswer {
		return nil, fmt.Errorf("the CA's answer is longer than %d bytes", MaxAnswer)
	}
	return data, nil
}
