// Package config reads the server's settings: flag before environment before file before default. Every flag is also
// WAXSEAL_… in the environment (--public-url is WAXSEAL_PUBLIC_URL) and a key of the YAML file (public-url). Secrets are
// paths to files, never values.
package config

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"
)

// Defaults of settings that have one.
const (
	DefaultData         = "waxseal-data"
	DefaultListen       = "127.0.0.1:8443"
	DefaultAccessRights = 3099
	DefaultOrganization = "Waxseal"
	// DefaultConnectorSilence is several of a connector's long polls, which last 25 s.
	DefaultConnectorSilence = 2 * time.Minute
	DefaultJobLease         = time.Minute
	// maxAccessRights is the sum of Apple's thirteen rights.
	maxAccessRights = 8191
	// maxFile bounds the file.
	maxFile = 1 << 20
)

// Settings are the operator's choices.
type Settings struct {
	Data        string
	Listen      string
	PublicURL   string
	DatabaseURL string
	TLSCert     string
	TLSKey      string
	APNSCert    string
	APNSKey     string
	APNSURL     string
	APNSCA      string

	ProxyCertHeader string
	TrustedProxies  []string
	DeviceListen    string
	DeviceURL       string

	Organization       string
	ProfileSigningCert string
	ProfileSigningKey  string
	PKIURL             string
	PKIListen          string
	AccessRights       int
	AcceptNewPublicURL bool
	ConnectorSilence   time.Duration
	JobLease           time.Duration

	Windows Windows
	Android Android
	Webhook Webhook
}

// Proxies are the networks of TrustedProxies; an address alone is a network of one.
func (s *Settings) Proxies() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range s.TrustedProxies {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, addrErr := netip.ParseAddr(text)
			if addrErr != nil {
				return nil, fmt.Errorf("trusted-proxy: %q is no network such as 10.0.0.0/8", text)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// Flags declares every setting on a flag set, with its default.
func (s *Settings) Flags(f *pflag.FlagSet) {
	f.StringVar(&s.Data, "data", DefaultData, "folder of the server's state, mode 0700")
	f.StringVar(&s.Listen, "listen", DefaultListen, "address to listen on; port 0 takes a free one")
	f.StringVar(&s.PublicURL, "public-url", "", "https URL by which devices, connectors and admins reach the server; default: the bound address")
	f.StringVar(&s.DatabaseURL, "database-url", "", "postgres://… ; default: SQLite in the data folder")
	f.StringVar(&s.TLSCert, "tls-cert", "", "TLS certificate chain, PEM; default: one of the server's own CA (ca.pem)")
	f.StringVar(&s.TLSKey, "tls-key", "", "private key of --tls-cert, PEM")
	f.StringVar(&s.APNSCert, "apns-cert", "", "MDM push certificate, PEM")
	f.StringVar(&s.APNSKey, "apns-key", "", "private key of --apns-cert, PEM")
	f.StringVar(&s.APNSURL, "apns-url", "", "push service; default: Apple's")
	f.StringVar(&s.APNSCA, "apns-ca", "", "CA of the push service, PEM, for one that is not Apple's")
	f.StringVar(&s.ProxyCertHeader, "proxy-cert-header", "", "header in which a trusted proxy hands on the client certificate")
	f.StringSliceVar(&s.TrustedProxies, "trusted-proxy", nil, "networks of proxies that are believed; repeatable")
	f.StringVar(&s.DeviceListen, "device-listen", "", "second address, which asks devices for their client certificate")
	f.StringVar(&s.DeviceURL, "device-url", "", "https URL of --device-listen")
	s.moreFlags(f)
}

func (s *Settings) moreFlags(f *pflag.FlagSet) {
	f.StringVar(&s.Organization, "organization", DefaultOrganization, "name that people see on enrolment page and profiles")
	f.StringVar(&s.ProfileSigningCert, "profile-signing-cert", "", "certificate chain that signs profiles, PEM; default: one of the server's own")
	f.StringVar(&s.ProfileSigningKey, "profile-signing-key", "", "private key of --profile-signing-cert, PEM")
	f.StringVar(&s.PKIURL, "pki-url", "", "plain http base URL of revocation lists, in certificates of the built-in CA; default: http://HOST/pki of the public URL, with the port of --pki-listen")
	f.StringVar(&s.PKIListen, "pki-listen", "", "address of a plain http listener for revocation lists, CA certificates and OCSP alone, such as :80; default: a proxy hands them on")
	f.IntVar(&s.AccessRights, "access-rights", DefaultAccessRights, "what the server may do on devices (Apple's AccessRights); fixed at the first enrolment")
	f.BoolVar(&s.AcceptNewPublicURL, "accept-new-public-url", false, "accept another public URL, though enrolled devices know only the former")
	f.DurationVar(&s.ConnectorSilence, "connector-silence", DefaultConnectorSilence, "how long connectors may be silent before they count as down")
	s.Windows.flags(f)
	s.Android.flags(f)
	s.Webhook.flags(f)
	f.DurationVar(&s.JobLease, "job-lease", DefaultJobLease, "how long a connector may work on a job before another may have it")
}

// EnvName is the environment variable of a flag.
func EnvName(flag string) string {
	return "WAXSEAL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Fill sets the flags that the command line did not give from the environment, then from the file. All faults are
// reported at once.
func Fill(f *pflag.FlagSet, lookup func(string) (string, bool), file string) error {
	fromFile, err := readFile(file)
	if err != nil {
		return err
	}
	var faults []error
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Changed || flag.Name == "help" || flag.Name == "config" || flag.Name == "version" {
			return
		}
		if value, ok := lookup(EnvName(flag.Name)); ok {
			if err := set(f, flag, []string{value}); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", EnvName(flag.Name), err))
			}
			return
		}
		if values, ok := fromFile[flag.Name]; ok {
			if err := set(f, flag, values); err != nil {
				faults = append(faults, fmt.Errorf("%s: %s: %w", file, flag.Name, err))
			}
		}
	})
	for name := range fromFile {
		if f.Lookup(name) == nil || name == "config" || name == "help" || name == "version" {
			faults = append(faults, fmt.Errorf("%s: %s is no setting; waxseal-server --help lists them", file, name))
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

func set(f *pflag.FlagSet, flag *pflag.Flag, values []string) error {
	if _, list := flag.Value.(pflag.SliceValue); !list && len(values) != 1 {
		return errors.New("it takes one value, not a list")
	}
	for _, v := range values {
		if err := f.Set(flag.Name, v); err != nil {
			return err
		}
	}
	return nil
}

// readFile reads the YAML file: keys are flags' names, values scalars or lists of them.
func readFile(path string) (map[string][]string, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer func() { _ = file.Close() }()
	raw, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, maxFile)
	}
	var parsed map[string]any
	if err := yaml.Unmarshal(raw, &parsed); err != nil { // goccy refuses a key that stands twice
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	out := map[string][]string{}
	for key, value := range parsed {
		if out[key], err = scalars(value); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, key, err)
		}
	}
	return out, nil
}

func scalars(value any) ([]string, error) {
	switch v := value.(type) {
	case []any:
		var out []string
		for _, item := range v {
			one, err := scalars(item)
			if err != nil || len(one) != 1 {
				return nil, errors.New("a list holds plain values")
			}
			out = append(out, one...)
		}
		return out, nil
	case string, bool, int, int64, uint64, float64:
		return []string{fmt.Sprint(v)}, nil
	}
	return nil, fmt.Errorf("it is a plain value or a list of them, not %T", value)
}

// Check reports everything that is wrong with the settings at once.
func (s *Settings) Check() error {
	var faults []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	bad(s.Data == "", "data: it names a folder")
	bad(s.Listen == "", "listen: it is an address such as %s", DefaultListen)
	bad((s.TLSCert == "") != (s.TLSKey == ""), "tls-cert and tls-key are given together")
	bad((s.APNSCert == "") != (s.APNSKey == ""), "apns-cert and apns-key are given together")
	bad((s.ProfileSigningCert == "") != (s.ProfileSigningKey == ""), "profile-signing-cert and profile-signing-key are given together")
	bad((s.DeviceListen == "") != (s.DeviceURL == ""), "device-listen and device-url are given together")
	bad((s.ProxyCertHeader != "") && len(s.TrustedProxies) == 0, "proxy-cert-header: it is believed from a --trusted-proxy only; name its network")
	bad(s.AccessRights < 1 || s.AccessRights > maxAccessRights, "access-rights: %d; it is 1 to %d", s.AccessRights, maxAccessRights)
	bad(s.ConnectorSilence < time.Second, "connector-silence: %s; it is at least 1s", s.ConnectorSilence)
	bad(s.JobLease < time.Second, "job-lease: %s; it is at least 1s", s.JobLease)
	bad(s.Organization == "" || len(s.Organization) > 128, "organization: it has 1 to 128 bytes")
	faults = append(faults, s.Windows.check()...)
	faults = append(faults, s.Android.check(), s.Webhook.check())
	faults = append(faults, checkURL("public-url", s.PublicURL, "https"), checkURL("device-url", s.DeviceURL, "https"),
		checkURL("pki-url", s.PKIURL, "http"), checkURL("apns-url", s.APNSURL, "https"))
	if s.DatabaseURL != "" && !strings.HasPrefix(s.DatabaseURL, "postgres://") && !strings.HasPrefix(s.DatabaseURL, "postgresql://") {
		// The URL may hold a password and is not repeated.
		faults = append(faults, errors.New("database-url: it begins with postgres://"))
	}
	_, err := s.Proxies()
	return errors.Join(append(faults, err)...)
}

func checkURL(name, text, scheme string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != scheme || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("%s: %q is not a plain %s URL such as %s://mdm.example.com", name, text, scheme, scheme)
	}
	return nil
}
