package profiles

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Duration is a span of time in whole days, hours or minutes: "365d", "24h", "90m". A day has 24 hours.
type Duration time.Duration

// Day is 24 hours.
const Day = 24 * time.Hour

// maxDuration bounds what can be written, well below the overflow of time.Duration.
const maxDuration = 100 * 365 * Day

// ParseDuration reads the form "365d", "24h" or "90m": one number, one unit, nothing else.
func ParseDuration(s string) (Duration, error) {
	wrong := fmt.Errorf("%q is not a duration; write a number and d, h or m, as in 365d", s)
	if len(s) < 2 || len(s) > 12 {
		return 0, wrong
	}
	unit, ok := map[byte]time.Duration{'d': Day, 'h': time.Hour, 'm': time.Minute}[s[len(s)-1]]
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 40)
	if !ok || err != nil {
		return 0, wrong
	}
	if n > uint64(maxDuration/unit) {
		return 0, fmt.Errorf("%q is longer than %s", s, Duration(maxDuration))
	}
	return Duration(time.Duration(n) * unit), nil
}

// Time is the duration in Go's own type.
func (d Duration) Time() time.Duration { return time.Duration(d) }

// String is the form that ParseDuration reads, in the largest unit that is exact.
func (d Duration) String() string {
	switch t := time.Duration(d); {
	case t%Day == 0:
		return strconv.FormatInt(int64(t/Day), 10) + "d"
	case t%time.Hour == 0:
		return strconv.FormatInt(int64(t/time.Hour), 10) + "h"
	default:
		return strconv.FormatInt(int64(t/time.Minute), 10) + "m"
	}
}

// MarshalJSON writes the text form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads the text form only; a bare number has no unit and is refused.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("duration %s is not text as in \"365d\"", data)
	}
	v, err := ParseDuration(s)
	if err == nil {
		*d = v
	}
	return err
}
