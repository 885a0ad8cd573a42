// Package reconcile decides, as a pure function, what one enrolment needs next: gather one input, run an ordered list of
// small checks, first reason wins.
package reconcile
