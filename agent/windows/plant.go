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
		d.plantValue(syncml.Join(uri, p.name), p.value)
	}
	for _, child := range c.children {
		d.plantProvider(syncml.Join(uri, child.kind), child)
	}
}

func (d *Device) plantValue(uri, value string) {
	if err := d.state.PC.Set(uri, value); err != nil {
		d.cfg.Log.Warn("a value of the provisioning document has no place", "reason", err)
	}
}

func (d *Device) plantRenewal(r *renewal) {
	if r == nil {
		return
	}
	d.plantValue(renewURI+"ROBOSupport", strconv.FormatBool(r.ROBO))
	d.plantValue(renewURI+"RenewPeriod", strconv.Itoa(r.Period))
	d.plantValue(renewURI+"RetryInterval", strconv.Itoa(r.Retry))
}

// node reads a value of the tree, empty if there is none.
func (d *Device) node(uri string) string {
	value, _ := d.state.PC.Value(uri)
	return value
}

// Policies are the settings of Outlook and other programs that management made, as name and value.
func (d *Device) Policies() map[string]string { return d.state.PC.Policies() }

// Tree is the management tree.
func (d *Device) Tree() []csp.Node { return d.state.PC.Tree() }
