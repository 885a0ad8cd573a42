package store

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/server/internal/model"
)

// reassign gives jobs for CAs to those who offer these now: the connector that they were for may be lost. A revocation that
// was given up because nobody had the CA is tried again. They are read by pages: there may be many.
func (t *tx) reassign(now time.Time) error {
	cas, err := t.cas()
	if err != nil {
		return err
	}
	after := ""
	for {
		page, err := list(t, jobs(), `WHERE kind IN ('issue', 'certify', 'revoke') AND state IN ('open', 'leased', 'failed') AND id > $1
			ORDER BY id LIMIT $2`, after, maxPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, j := range page {
			after = j.ID
			if err := t.reassignJob(j, cas, now); err != nil {
				return err
			}
		}
	}
}

func (t *tx) reassignJob(j model.Job, cas []link.CA, now time.Time) error {
	if link.PartnerOf(j.Needs) != "" {
		return nil // the partner asked for it, or has the certificate
	}
	needs := link.Offering(cas, caOf(j))
	if len(needs) == 0 || link.PartnerOf(needs) != "" {
		return nil
	}
	if !slices.Equal(needs, j.Needs) {
		if err := t.do(`UPDATE jobs SET needs = $1 WHERE id = $2`, needs, j.ID); err != nil {
			return err
		}
	}
	return t.do(`UPDATE jobs SET state = 'open', run_at = $1, updated_at = $1 WHERE id = $2 AND kind = 'revoke' AND state = 'failed' AND reason = $3`,
		now, j.ID, platforms.ReasonCertificateAuthorityUnknown)
}

// caOf is the CA that a job asks; empty where it does not say, which is not worth keeping a connector from publishing.
func caOf(j model.Job) string {
	var p struct {
		CA      string `json:"ca"`
		Request struct {
			CA string `json:"certificateAuthority"`
		} `json:"request"`
	}
	if err := json.Unmarshal(j.Payload, &p); err != nil {
		return ""
	}
	if j.Kind == link.JobRevoke {
		return p.CA
	}
	return p.Request.CA
}
