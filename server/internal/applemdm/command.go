package applemdm

import (
	"net/http"
	"strconv"

	"github.com/waxseal/waxseal/platforms/apple/mdm"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// pendingHeader counts, on an answer without a command, what will come by itself. Apple's devices do not look at it; a
// simulated one that polls uses it to know whether to wait.
const pendingHeader = "Waxseal-Pending"

// command takes a report and answers with the next command or nothing (apple.md section 3).
func (e *Endpoint) command(w http.ResponseWriter, r *http.Request) error {
	s, err := e.authenticate(r)
	if err != nil {
		return err
	}
	if s.enr.State == model.EnrolmentEnded {
		return e.ended(w, r, s.enr)
	}
	ctx := r.Context()
	report, err := mdm.DecodeReport(s.body)
	if err != nil {
		return e.unparsed(ctx, s, "report", err)
	}
	if err := belongs(s.enr, report.Enrollment); err != nil {
		return e.refused(ctx, s.enr.ID, err)
	}
	if s.enr.State != model.EnrolmentActive {
		return e.refused(ctx, s.enr.ID, &identity.Refusal{Reason: "the device has not sent TokenUpdate yet"})
	}
	enr := s.enr
	if report.IsUser() {
		managed := false
		if enr, managed, err = e.userReport(ctx, s, report.Enrollment); err != nil || !managed {
			return err
		}
		web.Annotate(ctx, enr.ID, enr.DeviceID)
	}
	command, pending, err := e.cfg.Delivery.Report(ctx, enr, report)
	if err != nil {
		return e.refused(ctx, s.enr.ID, err)
	}
	return answer(w, command, pending)
}

func answer(w http.ResponseWriter, command []byte, pending int) error {
	if len(command) == 0 {
		if pending > 0 {
			w.Header().Set(pendingHeader, strconv.Itoa(pending))
		}
		w.WriteHeader(http.StatusOK) // zero bytes, not an empty property list
		return nil
	}
	w.Header().Set("Content-Type", "application/xml; charset=UTF-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(command)))
	_, _ = w.Write(command) // lost on the way: the device asks again and gets the same command
	return nil
}
