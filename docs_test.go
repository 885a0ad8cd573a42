package waxseal_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestEveryReasonIsExplained: what `waxctl explain device` says, docs/operations.md says what to do about.
func TestEveryReasonIsExplained(t *testing.T) {
	source, err := os.ReadFile("platforms/reason.go")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	reasons := regexp.MustCompile(`Reason = "(\w+)"`).FindAllSubmatch(source, -1)
	if len(reasons) < 30 {
		t.Errorf("%d reasons", len(reasons))
	}
	for _, m := range reasons {
		if word := "`" + string(m[1]) + "`"; !strings.Contains(string(docs), word) {
			t.Errorf("docs/operations.md does not say what to do about %s", word)
		}
	}
}
