package apple

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/waxseal/waxseal/platforms/apple/proplist"
	"github.com/waxseal/waxseal/profiles"
)

// importHint tells what to do instead of uploading a key.
const importHint = "import keys with `waxctl import pfx`, which seals them before upload"

// CheckCustom judges an uploaded configuration profile, plain or signed. It refuses what must never reach the server:
// private keys and passwords, wherever in the profile they are; and what would collide with the server's own work:
// management payloads, encrypted profiles and identifiers that begin with namespacePrefix. The error lists every fault
// and names payload and key, never a value.
func CheckCustom(data []byte, namespacePrefix string) error {
	if len(data) > proplist.MaxSize {
		return errors.New("the profile is larger than 1 MiB")
	}
	if holdsTextKey(data) {
		return fmt.Errorf("the file carries a private key (%s)", importHint)
	}
	p, err := ParseProfile(data)
	if err != nil {
		return err
	}
	plain, err := (&Profile{}).unwrap(data)
	if err != nil {
		return err
	}
	if err := checkMarkup(plain); err != nil {
		return err
	}
	if p.IsEncrypted {
		return errors.New("the profile is encrypted: upload it in plain or signed form, so that it can be checked")
	}
	if len(p.Payloads) == 0 {
		return errors.New("the profile has no payload")
	}
	c := &customCheck{prefix: namespacePrefix, uuids: map[string]string{p.UUID: "the profile itself"}, identifiers: map[string]string{}}
	c.ours("the profile", p.Identifier)
	c.walk("the profile", "", p.Content)
	for _, pl := range p.Payloads {
		c.payload(pl)
	}
	if len(c.faults) == 0 && (holdsKeyAnywhere(data) || holdsKeyAnywhere(plain)) {
		c.fault("the file carries a private key outside its payloads (%s)", importHint)
	}
	return errors.Join(c.faults...)
}

// customCheck gathers all faults of one profile.
type customCheck struct {
	prefix             string
	uuids, identifiers map[string]string // who has it already
	faults             []error
	depth              int // of profiles inside profiles
}

// maxNesting bounds profiles inside profiles; base64 makes each a third larger than what it holds.
const maxNesting = 4

func (c *customCheck) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf(format, args...))
}

func (c *customCheck) payload(pl Payload) {
	where := fmt.Sprintf("payload %s (%s)", pl.Identifier, pl.Type)
	c.once(c.uuids, where, "PayloadUUID", pl.UUID)
	c.once(c.identifiers, where, "PayloadIdentifier", pl.Identifier)
	c.ours(where, pl.Identifier)
	switch strings.ToLower(pl.Type) {
	case typePKCS12:
		c.fault("%s carries a private key in a PKCS#12 (%s)", where, importHint)
		return
	case typeMDM:
		c.fault("%s: a management payload is not for Custom profiles; devices enrol by link", where)
		return
	}
	c.walk(where, "", pl.Content)
}

// once finds duplicates, which devices refuse.
func (c *customCheck) once(seen map[string]string, where, key, value string) {
	if other, taken := seen[value]; taken {
		c.fault("%s: %s is the same as that of %s", where, key, other)
		return
	}
	seen[value] = where
}

func (c *customCheck) ours(where, identifier string) {
	prefix := strings.ToLower(strings.TrimSuffix(c.prefix, "."))
	id := strings.ToLower(identifier)
	if prefix != "" && (id == prefix || strings.HasPrefix(id, prefix+".")) {
		c.fault("%s: the identifier %s belongs to this server's own documents; choose another", where, identifier)
	}
}

// walk looks at every value below a dictionary, in the order of the keys.
func (c *customCheck) walk(where, path string, d proplist.Dict) {
	keys := make([]string, 0, len(d))
	for key := range d {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		at := strings.TrimPrefix(path+"."+key, ".")
		if strings.EqualFold(key, "EncryptedPayloadContent") {
			c.fault("%s: %s is encrypted: upload it in plain form, so that it can be checked", where, at)
			continue
		}
		if isPasswordKey(key) && !isEmpty(d[key]) {
			c.fault("%s: %s holds a password or challenge, which must not be stored in a profile (%s)", where, at, importHint)
			continue
		}
		c.value(where, at, d[key])
	}
}

func (c *customCheck) value(where, at string, v any) {
	switch t := v.(type) {
	case map[string]any:
		c.walk(where, at, t)
	case []any:
		for i, item := range t {
			c.value(where, fmt.Sprintf("%s[%d]", at, i), item)
		}
	case string:
		c.data(where, at, []byte(t))
	case []byte:
		c.data(where, at, t)
	}
}

// data judges the bytes of a value, string or data. They may be base64 of others, and hold a property list or a whole
// profile of their own, signed or not.
func (c *customCheck) data(where, at string, data []byte) {
	if holdsTextKey(data) || isKeyDER(data) || holdsKeyAnywhere(data) {
		c.fault("%s: %s carries a private key (%s)", where, at, importHint)
		return
	}
	if bytes.HasPrefix(data, []byte("bplist")) {
		c.fault("%s: %s is a binary property list, which cannot be checked; write it in XML form", where, at)
		return
	}
	if decoded, ok := decodeText(data); ok {
		c.data(where, at, decoded)
		return
	}
	start := bytes.Index(data, []byte("<plist"))
	end := bytes.LastIndex(data, []byte("</plist>"))
	if start < 0 || end < start {
		return
	}
	if c.depth == maxNesting {
		c.fault("%s: %s nests profiles too deeply", where, at)
		return
	}
	inner, err := proplist.Decode(data[start : end+len("</plist>")])
	if err != nil {
		c.fault("%s: %s holds a property list that cannot be read, and so not be checked", where, at)
		return
	}
	c.depth++
	c.value(where, at, inner)
	c.depth--
}

// isPasswordKey knows the keys by which payloads carry secrets, whatever payload it is: Password, IncomingPassword,
// OutgoingPassword, CertificatePassword, UserPassword (EAP), ProxyPassword, RemovalPassword, Challenge (SCEP),
// SharedSecret (VPN), and relatives. Switches about passwords, such as OutgoingPasswordSameAsIncomingPassword, pass
// isEmpty's test of the value.
func isPasswordKey(key string) bool {
	k := strings.ToLower(strings.NewReplacer(" ", "", "_", "", "-", "").Replace(key))
	for _, end := range []string{"password", "passphrase", "challenge", "sharedsecret", "secret", "privatekey", "psk", "authtoken", "accesstoken", "apikey"} {
		if strings.HasSuffix(k, end) {
			return true
		}
	}
	return k == "passcode" || k == "passwordhash" || k == "pin" || k == "enrollmenttoken"
}

// isEmpty tells whether a value cannot be a secret: an empty string or a switch.
func isEmpty(v any) bool {
	switch t := v.(type) {
	case string:
		return t == ""
	case []byte:
		return len(t) == 0
	case bool:
		return true
	}
	return false
}

// customBody takes the admin's profile apart and leaves the signature behind; the server signs documents itself.
func (p *planner) customBody(spec *profiles.Custom) (body, error) {
	if err := CheckCustom(spec.Content, p.in.Namespace); err != nil {
		return body{}, err
	}
	profile, err := ParseProfile(spec.Content)
	if err != nil {
		return body{}, err
	}
	if err := p.checkChannel(profile); err != nil {
		return body{}, err
	}
	b := p.body("")
	b.Custom, err = profile.XML()
	return b, err
}
