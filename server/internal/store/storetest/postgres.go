package storetest

import "github.com/waxseal/waxseal/internal/testpg"

// Postgres is the PostgreSQL server of the suites.
type Postgres = testpg.Server
