package windows

import (
	"strconv"

	"github.com/waxseal/waxseal/agent/windows/csp"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// plant puts into the management tree what the provisioning document brought.
func (d *Device) plant(p *provisioning) {
	pc := d.state.PC
	for _, cert := range p.roots {
		pc.AddProvisioned(storeRoot, cert)
	}
	for _, cert := range p.issuers {
		pc.AddProvisioned(storeCA, cert)
	}
	for _, cert := range p.personal { // My/User of the document, by Microsoft's page the place of the intermediate
		pc.AddProvisioned(storeCA, cert)
	}
	pc.AddProvisioned(d.state.MDM.store(), p.client)
	d.plantProvider(d.providerURI(), p.provider)
	d.plantRenewal(p.renew)
}

// providerURI is the DMClient node of the management server.
func (d *Device) providerURI() string {
	return syncml.Join(".", "Device", "Vendor", "MSFT", "DMClient", "Provider", syncml.Escape(d.state.MDM.ProviderID))
}

// plantProvider writes the values under DMClient/Provider. One that this Windows does not have is passed over.
func (d *Device) plantProvider(uri string, c *characteristic) {
	for _, p := range c.parms {
		at := syncml.Join(uri, p.name)
		if status := d.write(at, p); status >= syncml.StatusBadRequest {
			d.cfg.Log.Warn("a value of the provisioning document has no place", "node", at, "status", status)
		}
	}
	for _, child := range c.children {
		d.plantProvider(syncml.Join(uri, child.kind), child)
	}
}

// write sets a node whether it is there or not, and returns the status.
func (d *Device) write(uri string, p parm) int {
	format := map[string]string{"integer": "int", "boolean": "bool"}[p.datatype]
	if format == "" {
		format = "chr"
	}
	status := syncml.StatusFailed
	for _, verb := range []syncml.Verb{syncml.Replace, syncml.Add} {
		answers, _ := d.state.PC.Execute("0", []syncml.Command{{
			Verb: verb, ID: "1", Items: []syncml.Item{{Target: uri, Format: format, Data: p.value}},
		}})
		if status, _ = strconv.Atoi(answers[0].Data); status < syncml.StatusBadRequest { //nolint:errcheck // 0 fails
			return status
		}
	}
	return status
}

// plantRenewal writes the renewal settings, which belong into an Atomic (windows.md section 3.4).
func (d *Device) plantRenewal(r *renewal) {
	if r == nil {
		return
	}
	const uri = "./Device/Vendor/MSFT/CertificateStore/MY/WSTEP/Renew/"
	var inner []syncml.Command
	for _, p := range []syncml.Item{
		{Target: uri + "ROBOSupport", Format: "bool", Data: strconv.FormatBool(r.ROBO)},
		{Target: uri + "RenewPeriod", Format: "int", Data: strconv.Itoa(r.Period)},
		{Target: uri + "RetryInterval", Format: "int", Data: strconv.Itoa(r.Retry)},
	} {
		inner = append(inner, syncml.Command{Verb: syncml.Add, Items: []syncml.Item{p}})
	}
	atomic, _ := syncml.Number(1, []syncml.Command{{Verb: syncml.Atomic, Commands: inner}})
	d.state.PC.Execute("0", atomic)
}

// node reads a value of the tree, empty if there is none.
func (d *Device) node(uri string) string {
	answers, _ := d.state.PC.Execute("0", []syncml.Command{{Verb: syncml.Get, ID: "1", Items: []syncml.Item{{Target: uri}}}})
	for _, a := range answers {
		if a.Verb == syncml.Results && len(a.Items) > 0 {
			return a.Items[0].Data
		}
	}
	return ""
}

// Policies are the settings of Outlook and other programs that management made, as name and value.
func (d *Device) Policies() map[string]string { return d.state.PC.Policies() }

// Tree is the management tree.
func (d *Device) Tree() []csp.Node { return d.state.PC.Tree() }
