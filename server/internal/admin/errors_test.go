package admin_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/api"
)

func TestErrorsDoNotRepeatTheBody(t *testing.T) {
	b := newBench(t)
	for _, body := range []string{`{"objects": [], "x": "hunter2"}`, `{"objects": [], "dryRun": "hunter2"}`, `hunter2`} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+api.BasePath+"/apply", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode/100 != 4 || strings.Contains(string(answer), "hunter2") || !strings.Contains(string(answer), "body") {
			t.Errorf("%s: %d %s, %v", body, resp.StatusCode, answer, err)
		}
	}
}
