package storetest

import (
	"context"

	"github.com/waxseal/waxseal/server/internal/admin"
)

// pages reads a list two rows at a time and gives the keys of all.
func pages[T any](f *fixture, read func(context.Context, admin.Page) ([]T, error), key func(T) string) []string {
	f.Helper()
	var keys []string
	after := ""
	for {
		rows := get(read(f.ctx, admin.Page{After: after, Limit: 2}))(f)
		if len(rows) == 0 {
			return keys
		}
		if len(rows) > 2 {
			f.Fatalf("a page of 2 has %d rows", len(rows))
		}
		for _, r := range rows {
			after = key(r)
			keys = append(keys, after)
		}
	}
}
