package scepca

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/connector/internal/ca/web"
)

// challenge is the settings', or one for this request from NDES.
func (a *adapter) challenge(ctx context.Context) (string, error) {
	if a.options.NDESAdminURL == "" {
		return a.options.Challenge, nil
	}
	answer, err := a.admin(ctx, http.MethodGet)
	if err != nil {
		return "", err
	}
	if answer.Status != http.StatusOK {
		return "", fmt.Errorf("asking NDES for a challenge: %w", web.Failed(answer, ""))
	}
	return parseChallenge(answer.Body)
}

// admin asks the mscep_admin page. Its answer is never repeated in an error: it may hold a challenge.
func (a *adapter) admin(ctx context.Context, method string) (web.Answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.options.NDESAdminURL, nil)
	if err != nil {
		return web.Answer{}, errors.New("options: ndesAdminURL does not parse")
	}
	request.SetBasicAuth(a.options.Username, a.options.Password)
	answer, err := web.Do(a.client, request)
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	if err != nil {
		return web.Answer{}, fmt.Errorf("asking NDES for a challenge: %w", err)
	}
	return answer, nil
}

// bold finds what the page shows in bold type: the thumbprint of the CA, in groups of eight digits, and the challenge, 16
// digits or with longer passwords 32. The words around it are in the language of the server.
func bold() *regexp.Regexp { return regexp.MustCompile(`(?i)<b>\s*([0-9a-f]{16}|[0-9a-f]{32})\s*</b>`) }

// parseChallenge reads the page of mscep_admin. It is written in UTF-16LE; what is between could turn it into ASCII.
func parseChallenge(page []byte) (string, error) {
	text := narrow(page)
	var found []string
	for _, match := range bold().FindAllStringSubmatch(text, 2) {
		found = append(found, match[1])
	}
	if found = slices.Compact(found); len(found) == 1 {
		return found[0], nil
	}
	if strings.Contains(text, "cache is full") {
		return "", errors.New("NDES gives no challenge: its password cache is full. They end after an hour; PasswordMax in the registry allows more")
	}
	return "", errors.New("ndesAdminURL shows no challenge: it must be the mscep_admin page, and the account may need Enroll on the templates of NDES")
}

// narrow gives ASCII, with other characters of UTF-16 as question marks.
func narrow(page []byte) string {
	if len(page) < 2 || page[1] != 0 && (page[0] != 0xff || page[1] != 0xfe) {
		return string(page)
	}
	var out strings.Builder
	for i := 0; i+1 < len(page); i += 2 {
		if page[i+1] != 0 || page[i] > 126 {
			out.WriteByte('?')
		} else {
			out.WriteByte(page[i])
		}
	}
	return out.String()
}
