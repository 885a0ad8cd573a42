package syncml

import (
	"reflect"
	"slices"
	"testing"
)

func TestNumber(t *testing.T) {
	given := []Command{{Verb: Delete}, {Verb: Atomic, Commands: []Command{{Verb: Add}, {Verb: Sequence, Commands: []Command{{Verb: Add}}}, {Verb: Add}}}, {Verb: Get}}
	got, next := Number(11, given)
	want := []Command{{Verb: Delete, ID: "11"}, {Verb: Atomic, ID: "12", Commands: []Command{{Verb: Add, ID: "13"},
		{Verb: Sequence, ID: "14", Commands: []Command{{Verb: Add, ID: "15"}}}, {Verb: Add, ID: "16"}}}, {Verb: Get, ID: "17"}}
	if !reflect.DeepEqual(got, want) || next != 18 {
		t.Errorf("got %+v, next %d", got, next)
	}
	if given[0].ID != "" || given[1].Commands[0].ID != "" || given[1].Commands[1].Commands[0].ID != "" {
		t.Errorf("the input changed: %+v", given)
	}
	if got, next := Number(5, nil); got != nil || next != 5 {
		t.Errorf("nothing: got %v, %d", got, next)
	}
}

func TestAnswersOfAFailedAtomic(t *testing.T) {
	a := atomicFailed().Answers(2)
	if code, ok := a.Header(); code != StatusOK || !ok {
		t.Errorf("header: got %d, %v", code, ok)
	}
	want := map[string]Outcome{"11": {Code: StatusOK}, "12": {StatusAtomicFailed, "0x800710DF"}, "14": {Code: StatusRolledBack},
		"15": {StatusFailed, "0x80070056"}, "17": {Code: StatusNotExecuted}}
	for id, outcome := range want {
		if got, ok := a.Status(id); got != outcome || !ok {
			t.Errorf("%s: got %+v, %v", id, got, ok)
		}
	}
	if _, ok := a.Status("18"); ok || len(a.Strays()) > 0 {
		t.Errorf("a status of nothing, or strays %v", a.Strays())
	}
}

func TestAnswersOfGets(t *testing.T) {
	a := getResults().Answers(3)
	if v, ok := a.Value("21", "./user/vendor/msft/%43lientCertificateInstall/PFXCertInstall/WAXSEAL-1/Status"); v != "0" || !ok {
		t.Errorf("status: got %q, %v", v, ok)
	}
	if _, ok := a.Value("22", pfxNode+"/Status"); ok {
		t.Error("a value of another node")
	}
	ids, _ := a.Value("23", "./User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall")
	if got := Children(ids); !slices.Equal(got, []string{"waxseal-1", "{A-1}", "two words"}) {
		t.Errorf("children: got %q", got)
	}
	if o, ok := a.Status("24"); o != (Outcome{StatusNotFound, "0x86000002"}) || !ok || a.Results("24") != nil {
		t.Errorf("missing node: got %+v, %v, %v", o, ok, a.Results("24"))
	}
	if _, ok := a.Value("24", "./Device/Vendor/MSFT/DMClient/Provider/MS%20DM%20Server/EntDMID"); ok {
		t.Error("a value of a missing node")
	}
}

func TestResultsInOddShapes(t *testing.T) {
	bySourceRef := results("4", "1", "7", Item{Data: "c"})
	bySourceRef.SourceRef = "./c"
	m := fromDevice(2, results("2", "1", "7", Item{Target: "./a", Data: "a"}), results("3", "1", "7", Item{Source: "./b", Data: "b"}), bySourceRef)
	a := m.Answers(1)
	for _, name := range []string{"a", "b", "c"} {
		if v, ok := a.Value("7", "./"+name); v != name || !ok {
			t.Errorf("%s: got %q, %v", name, v, ok)
		}
	}
	if got := a.Results("7"); len(got) != 3 || got[0].Source != "./a" || got[2].Source != "./c" {
		t.Errorf("got %+v", got)
	}
	if m.Commands[0].Items[0].Source != "" {
		t.Error("the message changed")
	}
}

func TestStrays(t *testing.T) {
	strays := []Command{
		status("1", "1", "0", syncHdr, "200"),
		status("2", "", "3", "Add", "200"),
		status("3", "02", "3", "Add", "200"),
		status("4", "99999999999999999999", "3", "Add", "200"),
		status("5", "2", "", "Add", "200"),
		status("6", "2", "0", "Add", "200"),
		status("7", "2", "3", syncHdr, "200"),
		status("8", "2", "3", "Add", ""),
		status("9", "2", "3", "Add", "OK"),
		status("10", "2", "3", "Add", "-404"),
		status("11", "2", "3", "Add", "99999999999999999999"),
		results("12", "1", "3", Item{Source: "./a"}),
		results("13", "2", "", Item{Source: "./a"}),
		results("14", "2", "0", Item{Source: "./a"}),
	}
	a := fromDevice(3, append(slices.Clone(strays), Command{Verb: Alert, ID: "15", Data: "1201"})...).Answers(2)
	if !reflect.DeepEqual(a.Strays(), strays) {
		t.Errorf("got %+v", a.Strays())
	}
	_, header := a.Header()
	_, command := a.Status("3")
	if header || command || a.Results("3") != nil {
		t.Error("a stray was taken for an answer")
	}
}

func TestRefs(t *testing.T) {
	m := fromDevice(3, status("1", "2", "0", syncHdr, "200"), status("2", "2", "11", "Get", "200"), results("3", "2", "11", Item{Source: "./a"}),
		results("4", "2", "7", Item{Source: "./b"}), status("5", "1", "9", "Get", "200"))
	if got := m.Answers(2).Refs(); !slices.Equal(got, []string{"11", "7"}) {
		t.Errorf("got %q", got)
	}
	if got := (Answers{}).Refs(); len(got) != 0 {
		t.Errorf("of nothing: %q", got)
	}
}

func TestTheFirstStatusCounts(t *testing.T) {
	first, second := failed(status("1", "2", "3", "Add", "500"), "0x80070056"), status("2", "2", "3", "Add", "200")
	a := fromDevice(3, first, second).Answers(2)
	if got, _ := a.Status("3"); got != (Outcome{500, "0x80070056"}) || !reflect.DeepEqual(a.Strays(), []Command{second}) {
		t.Errorf("got %+v, strays %+v", got, a.Strays())
	}
}

func TestMeaning(t *testing.T) {
	for _, code := range []int{200, 201, 202, 212, 213, 214, 215, 216, 400, 401, 403, 404, 405, 406, 407, 415, 416, 418, 424, 425, 500, 507, 516} {
		if Meaning(code) == "" {
			t.Errorf("%d has no meaning", code)
		}
	}
	for _, code := range []int{0, -1, 299, 999} {
		if got := Meaning(code); got != "" {
			t.Errorf("%d means %q", code, got)
		}
	}
}
