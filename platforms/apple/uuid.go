package apple

import (
	"crypto/sha1"
	"fmt"
	"strings"
)

// derivedUUID is a UUID version 5 (RFC 9562 section 5.5) of the parts, in the upper-case form that Apple's programs use.
func derivedUUID(parts ...string) string {
	// The name space is random, made once for this purpose; with another one every device would get everything again.
	space := [16]byte{0x6b, 0x1f, 0x5c, 0x0e, 0x37, 0x52, 0x4d, 0x8b, 0x9a, 0x64, 0x2e, 0xd1, 0x70, 0x8c, 0xf3, 0x19}
	h := sha1.New()
	h.Write(space[:])
	h.Write([]byte(strings.Join(parts, "\x00")))
	u := h.Sum(nil)[:16]
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}
