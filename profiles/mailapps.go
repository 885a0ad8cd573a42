package profiles

import (
	"fmt"
	"slices"
	"strings"
)

// PackageOutlook is Outlook on Android, the mail app of an Email profile that names none.
const PackageOutlook = "com.microsoft.office.outlook"

// maxApps bounds the mail apps of one Email profile; each gets a grant for each certificate.
const maxApps = 20

// EmailOnAndroid is what an Email profile says for Android only.
type EmailOnAndroid struct {
	// Apps are the packages of the mail apps, in the order in which they are listed to people.
	Apps []string `json:"apps"`
}

// AndroidApps are the packages of the mail apps on Android.
func (e *Email) AndroidApps() []string {
	if e.Android == nil || len(e.Android.Apps) == 0 {
		return []string{PackageOutlook}
	}
	return slices.Clone(e.Android.Apps)
}

func (a *EmailOnAndroid) check(r *report) {
	if a == nil {
		return
	}
	if len(a.Apps) == 0 {
		r.fault("spec.android.apps", "is missing; list packages of mail apps such as %s, or leave android out", PackageOutlook)
	}
	if len(a.Apps) > maxApps {
		r.fault("spec.android.apps", "lists %d apps; at most %d are allowed", len(a.Apps), maxApps)
		return
	}
	for i, app := range a.Apps {
		field := fmt.Sprintf("spec.android.apps[%d]", i)
		if err := CheckPackage(app); err != nil {
			r.fault(field, "%s", err)
		} else if slices.Contains(a.Apps[:i], app) {
			r.fault(field, "%s is listed twice", app)
		}
	}
}

// CheckPackage reports what is wrong with the name of an Android app: two or more parts with dots between, each a letter
// followed by letters, digits and underscores. Source: developer.android.com, "Set the application ID".
func CheckPackage(name string) error {
	wrong := fmt.Errorf("%q is not the package of an app; write it like %s", clipName(name), PackageOutlook)
	if len(name) > 223 || !strings.Contains(name, ".") {
		return wrong
	}
	for part := range strings.SplitSeq(name, ".") {
		if part == "" || !isASCIILetter(rune(part[0])) || strings.ContainsFunc(part, notInPackage) {
			return wrong
		}
	}
	return nil
}

// clipName keeps foreign text in an error short.
func clipName(s string) string {
	if len(s) <= maxName {
		return s
	}
	return strings.ToValidUTF8(s[:maxName], "") + "…"
}

func isASCIILetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }

func notInPackage(r rune) bool { return !isASCIILetter(r) && (r < '0' || r > '9') && r != '_' }
