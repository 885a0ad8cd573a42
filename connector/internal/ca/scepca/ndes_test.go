package scepca

import (
	"errors"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca/web"
)

// page is what mscep_admin shows; the words differ by language, the bold type does not.
func page(challenge string) string {
	return `<HTML><Head><Title>Network Device Enrollment Service</Title></Head><Body>
<P> To complete certificate enrollment for your network device you will need the following information:
<P> The thumbprint (hash value) for the CA certificate is: <B> 5F8D2A11 0C4B77E2 9A3D55F0 1B6C8E42 </B>
<P> The enrollment challenge password is: <B> ` + challenge + ` </B>
<P> This password can be used only once and will expire within 60 minutes.</Body></HTML>`
}

func (s *server) ndes() Options {
	return Options{NDESAdminURL: s.http.URL + "/certsrv/mscep_admin/", Username: `CORP\waxseal`, Password: "proper\n"}
}

func TestNDES(t *testing.T) {
	s := newServer(t)
	s.challenge = "0123456789ABCDEF"
	s.page = page(s.challenge)
	var n note
	if _, err := s.adapter(s.ndes()).Enroll(t.Context(), n.question(intent(t))); err != nil {
		t.Fatal(err)
	}
	s.page = "<P> The password cache is full."
	if _, err := s.adapter(s.ndes()).Enroll(t.Context(), n.question(intent(t))); err == nil || !strings.Contains(err.Error(), "cache is full") {
		t.Errorf("got %v", err)
	}
	o := s.ndes()
	o.Password = "wrong"
	if _, err := s.adapter(o).Enroll(t.Context(), n.question(intent(t))); !errors.Is(err, web.ErrCredentials) {
		t.Errorf("got %v", err)
	}
}

// TestNDESPolls: a poll needs no challenge, and they are few.
func TestNDESPolls(t *testing.T) {
	s := newServer(t)
	s.hold, s.challenge = true, strings.Repeat("0123456789abcdef", 2)
	s.page = page(s.challenge)
	var n note
	for range 3 {
		_, _ = s.adapter(s.ndes()).Enroll(t.Context(), n.question(intent(t)))
	}
	if count := strings.Count(strings.Join(s.asked, "\n"), "GET admin"); count != 1 || n.handle == nil {
		t.Errorf("%d challenges for one request", count)
	}
}

func TestParseChallenge(t *testing.T) {
	const short, long = "0123456789ABCDEF", "0123456789ABCDEF0123456789abcdef"
	cases := []struct {
		name string
		page []byte
		want string
	}{
		{"UTF-16LE", wide(page(short)), short},
		{"without its mark", wide(page(short))[2:], short},
		{"ASCII", []byte(page(long)), long},
		{"German", wide("Das Kennwort für die Registrierungsabfrage lautet: <b>" + short + "</b>"), short},
		{"twice the same", []byte(page(short) + page(short)), short},
		{"two", []byte(page(short) + page(long)), ""},
		{"no digits", []byte(page("hunter2hunter2xx")), ""},
		{"too short", []byte(page(short[1:])), ""},
		{"empty", nil, ""},
		{"odd", []byte{0xff, 0xfe, 0x41}, ""},
	}
	for _, tc := range cases {
		got, err := parseChallenge(tc.page)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
	}
}
