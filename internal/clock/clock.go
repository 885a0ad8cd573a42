//go:build !waxseal_testclock

// Package clock is the time that the four programs live in: the machine's. Programs that are built with the tag
// waxseal_testclock can be moved into the future, which is how tests play years; nothing else can move the time, and no
// released program is built so.
package clock

import "time"

// Now is the present.
func Now() time.Time { return time.Now() }
