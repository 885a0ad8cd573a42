package xmltree

import (
	"encoding/xml"
	"testing"
)

func TestRender(t *testing.T) {
	root := Parent("A:Root", Text("B", `<&">]]>`)).With("x", `"<&`).Add(Text("C", ""))
	if got, want := string(root.Render()), `<A:Root x="&#34;&lt;&amp;"><B>&lt;&amp;&#34;&gt;]]&gt;</B><C/></A:Root>`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := string(root.Lower().Render()); got[:7] != "<a:root" || string(root.Render())[:7] != "<A:Root" {
		t.Errorf("lower: %s", got)
	}
	one, other := root.Add(Text("D", "1")), root.Add(Text("E", "2"))
	if string(one.Render()) == string(other.Render()) {
		t.Error("two elements that were made of one share their children")
	}
}

// FuzzText: whatever the text is, it stays text.
func FuzzText(f *testing.F) {
	f.Add("a")
	f.Add("</B><C>")
	f.Add("\x00\xff]]>")
	f.Fuzz(func(t *testing.T, text string) {
		var got struct {
			B     []string `xml:"B"`
			Attr  string   `xml:"x,attr"`
			Other []struct {
				XMLName xml.Name
			} `xml:",any"`
		}
		if err := xml.Unmarshal(Parent("A", Text("B", text)).With("x", text).Render(), &got); err != nil || len(got.B) != 1 || len(got.Other) != 0 {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	})
}
