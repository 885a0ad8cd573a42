//go:build waxseal_testclock

package clock

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// Variable names a file with what is added to the machine's time, as a Go duration: 8760h.
const Variable = "WAXSEAL_TEST_CLOCK"

// Now is the machine's time and the offset in the file. The file is a few bytes and read at each call, so that a running
// program follows at once and nothing is kept; it must be replaced whole. One that cannot be read ends the program: a test
// that plays in another year than it thinks proves nothing.
func Now() time.Time {
	path := os.Getenv(Variable)
	if path == "" {
		return time.Now()
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", Variable, err))
	}
	offset, err := time.ParseDuration(strings.TrimSpace(string(raw)))
	if err != nil {
		panic(fmt.Sprintf("%s: %s: %v", Variable, path, err))
	}
	return time.Now().Add(offset)
}
