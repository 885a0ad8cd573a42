package issuance

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/testpki"
)

const request = "00112233445566778899aabbccddeeff"

func challenger(t testing.TB, key int, now *time.Time) *Challenger {
	t.Helper()
	c, err := NewChallenger(testpki.PoolKey(t, key), rand.Reader, func() time.Time { return *now })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func codeOf(err error) Code {
	var f *Fault
	if errors.As(err, &f) {
		return f.Code
	}
	return ""
}

func TestChallenge(t *testing.T) {
	now := testpki.Now()
	c := challenger(t, 1, &now)
	first, err := c.Make("5e1f0c6e-0000-4000-8000-000000000001", request)
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.Make("5e1f0c6e-0000-4000-8000-000000000001", request)
	if err != nil || first == second {
		t.Errorf("two challenges are the same, %v", err)
	}
	if len(first) > maxChallenge || strings.Contains(first, "5e1f") {
		t.Errorf("%d characters: %s", len(first), first)
	}
	b, err := challenger(t, 1, &now).Open(first) // another node
	if err != nil || b.EnrolmentID != "5e1f0c6e-0000-4000-8000-000000000001" || b.RequestID != request || !b.ExpiresAt.Equal(now.Add(ChallengeLife)) {
		t.Errorf("%+v, %v", b, err)
	}
	if _, err := c.Make("e", "odd"); err == nil {
		t.Error("a request id that is none was taken")
	}
	if _, err := c.Make(strings.Repeat("e", 200), request); err == nil {
		t.Error("a challenge was made that a CSR cannot hold")
	}
}

// TestSC03ChallengeFaults: each fault has its code, that of the partner API (CN-10).
func TestSC03ChallengeFaults(t *testing.T) {
	now := testpki.Now()
	c := challenger(t, 1, &now)
	good, err := c.Make("e-1", request)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(good)
	bent := append([]byte(nil), raw...)
	bent[20] ^= 1
	short := c.aead.Seal(make([]byte, nonceSize), make([]byte, nonceSize), []byte("v0"), nil)
	cases := []struct {
		name, text string
		after      time.Duration
		key        int
		want       Code
	}{
		{"none", "", 0, 1, ChallengePasswordMissing},
		{"no base64", "a challenge of another server", 0, 1, ChallengeDecodingError},
		{"long", strings.Repeat("A", 1000), 0, 1, ChallengeDecodingError},
		{"short", "AAAA", 0, 1, ChallengeDecryptionError},
		{"changed", base64.RawURLEncoding.EncodeToString(bent), 0, 1, ChallengeDecryptionError},
		{"another server's", good, 0, 2, ChallengeDecryptionError},
		{"another version", base64.RawURLEncoding.EncodeToString(short), 0, 1, ChallengeDeserializationError},
		{"expired", good, ChallengeLife + time.Second, 1, ChallengeExpired},
		{"from the future", good, -time.Hour, 1, ChallengeInvalidTimestamp},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			then := now.Add(tc.after)
			_, err := challenger(t, tc.key, &then).Open(tc.text)
			if codeOf(err) != tc.want || tc.text != "" && strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func FuzzChallenge(f *testing.F) {
	now := testpki.Now()
	c := challenger(f, 1, &now)
	good, err := c.Make("e-1", request)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("")
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, text string) {
		b, err := c.Open(text)
		if err == nil && (b.EnrolmentID == "" || len(b.RequestID) != 32) || err != nil && codeOf(err) == "" {
			t.Errorf("%+v, %v", b, err)
		}
	})
}
