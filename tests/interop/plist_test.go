package interop

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// toJSON prints a property list as JSON, with data in base64, as Python understands it.
const toJSON = `
import base64, json, plistlib, sys
def plain(v):
    if isinstance(v, dict): return {k: plain(x) for k, x in v.items()}
    if isinstance(v, list): return [plain(x) for x in v]
    if isinstance(v, bytes): return base64.b64encode(v).decode()
    return v if isinstance(v, (str, int, float, bool)) else v.isoformat()
json.dump(plain(plistlib.loads(sys.stdin.buffer.read())), sys.stdout)
`

// plist decodes a property list with python3's plistlib into JSON's types; data becomes base64.
func (f *folder) plist(raw []byte) any {
	f.t.Helper()
	var out any
	if err := json.Unmarshal(f.peer(raw, "python3", "-c", toJSON), &out); err != nil {
		f.t.Fatal(err)
	}
	return out
}

type dict = map[string]any

// dictionary decodes a property list whose root is a dictionary.
func (f *folder) dictionary(raw []byte) dict {
	f.t.Helper()
	d, ok := f.plist(raw).(dict)
	if !ok {
		f.t.Fatalf("the property list's root is no dictionary:\n%s", raw)
	}
	return d
}

// readers gives a property list to every other program that reads them; plistutil turns it into Apple's binary form and back.
func (f *folder) readers(name string, raw []byte) {
	f.t.Helper()
	f.write(name, raw)
	f.peer(nil, "xmllint", "--noout", "--nonet", name)
	f.peer(nil, "plistutil", "-i", name, "-f", "bin", "-o", name+".bin")
	again, want := f.plist(f.peer(nil, "plistutil", "-i", name+".bin", "-f", "xml")), f.plist(raw)
	if a, b := fmt.Sprint(again), fmt.Sprint(want); a != b {
		f.t.Errorf("%s: plistutil reads\n%s\npython3 reads\n%s", name, a, b)
	}
}

// payload finds the payload of a type; nil if there is none.
func payload(content any, kind string) dict {
	for _, d := range payloads(content, kind) {
		return d
	}
	return nil
}

// payloads are those of a type; empty means all.
func payloads(content any, kind string) (out []dict) {
	list, _ := content.([]any)
	for _, item := range list {
		if d, ok := item.(dict); ok && (kind == "" || d["PayloadType"] == kind) {
			out = append(out, d)
		}
	}
	return out
}

func text(d dict, key string) string {
	s, _ := d[key].(string)
	return s
}

// data is a value of the type data.
func (f *folder) data(d dict, key string) []byte {
	f.t.Helper()
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text(d, key)))
	if err != nil || len(raw) == 0 {
		f.t.Fatalf("%s is no data: %q", key, text(d, key))
	}
	return raw
}
