package mde

import (
	"errors"
	"net/url"
	"strings"
	"unicode"
)

// maxAppRU is far above what Windows sends.
const maxAppRU = 512

// CheckAppRU tells whether a sign-in page may post its token to appru, the address that Windows gave it. The Settings
// app has ms-app://windows.immersivecontrolpanel. Without the check the page would post tokens wherever a link says.
// Source: windows.md 1.4.
func CheckAppRU(appru string) error {
	u, err := url.Parse(appru)
	switch {
	case len(appru) > maxAppRU:
		return errors.New("appru is too long")
	case err != nil, !strings.HasPrefix(appru, "ms-app://"), u.Host == "", u.User != nil:
		return errors.New("appru must be an address that begins with ms-app://")
	case strings.ContainsFunc(appru, func(c rune) bool { return !unicode.IsGraphic(c) || unicode.IsSpace(c) }):
		return errors.New("appru must have no blanks and no control characters")
	}
	return nil
}

// DeepLink is a link that opens the enrolment in Windows' settings for that user and server (windows.md 1.2).
func DeepLink(upn, server string) string {
	return "ms-device-enrollment:?mode=mdm&username=" + escape(upn) + "&servername=" + escape(server)
}
