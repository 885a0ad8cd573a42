package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func load(t *testing.T, args []string, env map[string]string, file string) (Settings, error) {
	t.Helper()
	path := ""
	if file != "" {
		path = filepath.Join(t.TempDir(), "waxseal.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var s Settings
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	s.Flags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	if err := Fill(f, lookup, path); err != nil {
		return s, err
	}
	return s, s.Check()
}

func TestPrecedence(t *testing.T) {
	file := "organization: File\naccess-rights: 1\npublic-url: https://file.example\ntrusted-proxy: [10.0.0.0/8, 192.0.2.1]\n"
	env := map[string]string{"WAXSEAL_ORGANIZATION": "Env", "WAXSEAL_ACCESS_RIGHTS": "2"}
	s, err := load(t, []string{"--organization", "Flag"}, env, file)
	if err != nil {
		t.Fatal(err)
	}
	if s.Organization != "Flag" || s.AccessRights != 2 || s.PublicURL != "https://file.example" || s.Listen != DefaultListen {
		t.Errorf("got %+v", s)
	}
	proxies, err := s.Proxies()
	if err != nil || len(proxies) != 2 || proxies[1].String() != "192.0.2.1/32" {
		t.Errorf("proxies %v, %v", proxies, err)
	}
}

func TestEnvironmentList(t *testing.T) {
	s, err := load(t, nil, map[string]string{"WAXSEAL_TRUSTED_PROXY": "10.0.0.0/8,2001:db8::/32"}, "")
	if err != nil || len(s.TrustedProxies) != 2 {
		t.Errorf("got %v, %v", s.TrustedProxies, err)
	}
}

func TestBadSettings(t *testing.T) {
	cases := []struct {
		name, file string
		args       []string
		env        map[string]string
		want       []string
	}{
		{"unknown key", "publicurl: x\n", nil, nil, []string{"publicurl is no setting"}},
		{"key twice", "data: a\ndata: b\n", nil, nil, []string{"data"}},
		{"list for a single value", "data: [a, b]\n", nil, nil, []string{"data: it takes one value"}},
		{"nested", "data: {a: b}\n", nil, nil, []string{"data: it is a plain value"}},
		{"bad number in environment", "", nil, map[string]string{"WAXSEAL_ACCESS_RIGHTS": "many"}, []string{"WAXSEAL_ACCESS_RIGHTS"}},
		{"half pairs, all at once", "", []string{"--tls-cert", "a", "--apns-key", "b", "--profile-signing-cert", "c", "--device-listen", "d"}, nil,
			[]string{"tls-cert and tls-key", "apns-cert and apns-key", "profile-signing-cert and", "device-listen and device-url"}},
		{"http public url", "", []string{"--public-url", "http://mdm.example"}, nil, []string{"public-url"}},
		{"https pki url", "", []string{"--pki-url", "https://pki.example"}, nil, []string{"pki-url"}},
		{"header without proxy", "", []string{"--proxy-cert-header", "Client-Cert"}, nil, []string{"--trusted-proxy"}},
		{"bad proxy", "", []string{"--trusted-proxy", "proxy.example"}, nil, []string{"trusted-proxy"}},
		{"impatience", "", []string{"--connector-silence", "10ms", "--job-lease", "0s"}, nil, []string{"connector-silence: 10ms", "job-lease: 0s"}},
		{"rights", "", []string{"--access-rights", "9000"}, nil, []string{"access-rights"}},
		{"database", "", []string{"--database-url", "mysql://u:secret@h/d"}, nil, []string{"database-url"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := load(t, tc.args, tc.env, tc.file)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q lacks %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Error("the error repeats a password")
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	if err := Fill(f, func(string) (string, bool) { return "", false }, filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("no error")
	}
}
