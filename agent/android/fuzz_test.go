package android

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/android/companion"
)

func FuzzLink(f *testing.F) {
	for _, seed := range []string{"https://mdm.example.com/enroll/TOKEN", "https://mdm.example.com:8443/a/b/c?x=y", "https://[::1]/enroll/%41%2f", "http://x/y", "https://x//"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := readLink(text)
		if err != nil {
			return
		}
		if u, err := url.Parse(l.server); err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || l.token == "" {
			t.Errorf("%q: %+v", text, l)
		}
	})
}

// A secret that decodes is a key pair or a fault, and no fault repeats any of it.
func FuzzSecret(f *testing.F) {
	ca := testpki.NewCA(f, "mail CA")
	id := ca.Issue(f, testpki.Options{CN: "alice", KeyType: testpki.P256})
	s := &fakeServer{t: f, secrets: map[string]companion.Secret{}, ca: ca}
	item := s.identity(id, "smime-enc-1", "r1")
	whole, err := json.Marshal(s.secrets[item.ID])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(strings.Replace(string(whole), `"key_der_b64":"MI`, `"key_der_b64":"MA`, 1)))
	f.Add([]byte(`{"format":"pkcs8+chain"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		secret, err := companion.DecodeSecret(raw)
		if err != nil {
			return
		}
		pair, o := keyPair(secret)
		if (pair.Key == nil || len(pair.Chain) == 0) == (o.fault == nil) {
			t.Errorf("%+v", o)
		}
	})
}
