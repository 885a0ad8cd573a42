package profiles

import (
	"reflect"
	"strings"
	"testing"
)

func TestEmailOnAndroid(t *testing.T) {
	many := strings.Repeat(`"a.b",`, 20) + `"a.b"`
	with := func(android string) string { return `{` + exchange + `,"android":` + android + `}` }
	runCheckCases(t, []checkCase{
		{"nothing said", KindEmail, "", `{` + exchange + `}`, "", ""},
		{"null", KindEmail, "", with(`null`), "", ""},
		{"two apps", KindEmail, "", with(`{"apps":["com.google.android.gm","com.ninefolders.hd3"]}`), "", ""},
		{"no apps", KindEmail, "", with(`{}`), "spec.android.apps: is missing", ""},
		{"empty list", KindEmail, "", with(`{"apps":[]}`), "spec.android.apps: is missing", ""},
		{"twice", KindEmail, "", with(`{"apps":["a.b","c.d","a.b"]}`), "spec.android.apps[2]: a.b is listed twice", ""},
		{"too many", KindEmail, "", with(`{"apps":[` + many + `]}`), "lists 21 apps; at most 20", ""},
		{"not a package", KindEmail, "", with(`{"apps":["outlook"]}`), `spec.android.apps[0]: "outlook" is not the package`, ""},
	})
}

func TestAndroidApps(t *testing.T) {
	for _, e := range []*Email{{}, {Android: &EmailOnAndroid{}}} {
		if got := e.AndroidApps(); !reflect.DeepEqual(got, []string{PackageOutlook}) {
			t.Errorf("%v", got)
		}
	}
	e := &Email{Android: &EmailOnAndroid{Apps: []string{"a.b"}}}
	e.AndroidApps()[0] = "changed"
	if got := e.AndroidApps(); !reflect.DeepEqual(got, []string{"a.b"}) {
		t.Errorf("%v", got)
	}
}

func TestEmailOnAndroidIsStrict(t *testing.T) {
	for spec, want := range map[string]string{
		`{"android":{"app":["a.b"]}}`:  "spec.android.app: unknown field",
		`{"android":{"apps":"a.b"}}`:   "spec.android.apps: must be a list",
		`{"android":{"apps":[1]}}`:     "spec.android.apps[0]: must be text",
		`{"android":["a.b"]}`:          "spec.android: must be an object",
		`{"Android":{"apps":["a.b"]}}`: "spec.Android: unknown field; write it android",
	} {
		_, faults := DecodeObjects([]byte(`{"apiVersion":"waxseal/v1","kind":"Email","name":"x","spec":` + spec + `}`))
		if !strings.Contains(faults.Error(), want) {
			t.Errorf("%s: %v, want %q", spec, faults, want)
		}
	}
}

func TestCheckPackage(t *testing.T) {
	for _, good := range []string{"a.b", "com.microsoft.office.outlook", "com.ninefolders.hd3.work", "A_1.b2_"} {
		if err := CheckPackage(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "a", ".a.b", "a..b", "a.b.", "1a.b", "a._b", "a.b-c", "a.b:c", "a.b/c", "a.ä", "a.b\n",
		"a." + strings.Repeat("b", 300)} {
		if err := CheckPackage(bad); err == nil || len(err.Error()) > 400 {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
