package syncml

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestEscape(t *testing.T) {
	cases := map[string]string{
		"": "", "waxseal-1_a.b~c": "waxseal-1_a.b~c", "MS DM Server": "MS%20DM%20Server", "{A-1}": "%7BA-1%7D",
		"100%": "100%25", "a/b": "a%2Fb", "ä": "%C3%A4", "a+b@c:d": "a%2Bb%40c%3Ad", "*": "%2A",
	}
	for name, want := range cases {
		got := Escape(name)
		if back, err := url.PathUnescape(got); got != want || err != nil || back != name {
			t.Errorf("%q: got %q, which is %q (%v)", name, got, back, err)
		}
	}
	if got := Join("./Vendor/MSFT/DMClient/Provider", Escape("MS DM Server"), "EntDMID"); got != "./Vendor/MSFT/DMClient/Provider/MS%20DM%20Server/EntDMID" {
		t.Errorf("got %s", got)
	}
}

func TestCheckLocURI(t *testing.T) {
	cases := []struct{ uri, want string }{
		{"./Vendor/MSFT/DMClient", ""}, {"Vendor/MSFT", ""}, {".", ""}, {pfxNode, ""}, {"./a*b/..c", ""}, {"./%7BA%7D", ""},
		{strings.Repeat("a", maxLocURI), ""},
		{strings.Repeat("a", maxLocURI+1), "longer than 2048"}, {"", "empty"}, {"/Vendor", "must not start with /"}, {"/", "must not start with /"},
		{"./Vendor/", "empty segment"}, {"./Vendor//MSFT", "empty segment"}, {"./Vendor/./MSFT", ". as a segment"}, {"./.", ". as a segment"},
		{"./Vendor/%2E", ". as a segment"}, {"./Vendor/*", "just *"}, {"*", "just *"}, {"./%2a/x", "just *"},
	}
	for _, c := range cases {
		if err := CheckLocURI(c.uri); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: got %v, want %q", c.uri, err, c.want)
		}
	}
}

func TestEqualLocURI(t *testing.T) {
	cases := []struct {
		a, b string
		want bool
	}{
		{"./Vendor/MSFT", "./vendor/msft", true}, {"./a/%7Bx%7D", "./A/{X}", true}, {"./a/%7bx%7d", "./a/%7BX%7D", true},
		{"./two%20words", "./two words", true}, {"./100%", "./100%", true}, {"", "", true},
		{"./a%2Fb", "./a/b", false}, {"./a", "./a/", false}, {"./a", "a", false}, {"./a+b", "./a b", false},
	}
	for _, c := range cases {
		if got := EqualLocURI(c.a, c.b); got != c.want || EqualLocURI(c.b, c.a) != c.want {
			t.Errorf("%s and %s: got %v", c.a, c.b, got)
		}
	}
}

func TestChildren(t *testing.T) {
	cases := map[string][]string{
		"": nil, " \n": nil, "id1/id2": {"id1", "id2"}, "one": {"one"}, "%7BA%7D/a%2Fb/100%": {"{A}", "a/b", "100%"}, "/a//b/": {"a", "b"},
	}
	for data, want := range cases {
		if got := Children(data); !slices.Equal(got, want) {
			t.Errorf("%q: got %q", data, got)
		}
	}
}
