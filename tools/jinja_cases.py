"""Templates for gen_jinja_table.py: name of a table -> list of templates."""

VARS = {
    "n": 7, "z": 0, "neg": -3, "f": 2.5, "big": 9007199254740993, "t": True, "no": False, "nil": None,
    "s": "Hello, World", "e": "", "u": "Zoë ß 中文 😀", "sp": "  padded \n", "q": "it's \"so\"\\",
    "l": [3, 1, 2], "ls": ["b", "A", "c"], "le": [], "nested": [[1, 2], [3, [4, 5]]],
    "d": {"a": 1, "b": {"c": "deep"}, "items": "key", "list": [1, {"x": None}]}, "de": {},
    "users": [{"name": "Ann", "age": 30, "tags": ["x"]}, {"name": "bob", "age": 25, "tags": []},
              {"name": "Cy", "age": 30}],
}

# One a line.
EXPRESSIONS = r"""
1 + 2 * 3
7 - 2 - 1
(1 + 2) * 3
7 / 2
6 / 2
7 // 2
-7 // 2
7 % 3
-7 % 3
7 % -3
2 ** 10
2 ** -1
2 ** 3 ** 2
7.5 // 2
-7.5 // 2
7.5 % 2
-7.5 % 2
1.0
1e16
1e15
123456789012345680.0
0.1 + 0.2
1e-5
0.0001
1.5e300 * 1e10
100.0
-0.0
3.14159
1_000 + 1
0x1F
0o17
0b101
1_0.5
5e3
2.5E-3
-n
+n
--n
-f
-t
not n
not z
not not s
not e == e
n == 7.0
t == 1
no == 0
"a" == "a"
"a" != 'b'
nil == none
nil is none
missing == missing
missing == none
l == [3, 1, 2]
d == d
(1, 2) == [1, 2]
1 < 2
1 < 2 < 3
1 < 2 > 3
3 >= 3
"a" < "b"
"Z" < "a"
[1, 2] < [1, 3]
1 < 2.5
1 <= 1 == 1
1 in l
5 in l
5 not in l
"ell" in s
"x" in s
"x" not in s
"a" in d
"zz" in d
"" in s
1 in []
"a" in missing
1.0 in l
true in [1]
true and 5
0 and 5
0 or 5
nil or "x"
"" or [] or "last"
s and t
true or undefinedthing
not (true and false)
"yes" if t else "no"
"yes" if no else "no"
"yes" if no
1 if z else 2 if z else 3
("x" if no) is defined
(1 if t else 2) + 1
"a" ~ 1 ~ none ~ true ~ 2.5 ~ [1, "b"]
1 ~ 2 + 3
"a" "b" 'c'
"x" * 3
3 * "ab"
[1, 2] * 2
"x" * -1
[1] + [2, 3]
(1,) + (2,)
"a" + "b" + "c"
s[0]
s[-1]
s[0:5]
s[7:]
s[:-1]
s[::2]
s[::-1]
s[100:]
s[-100:3]
s[5:2]
u[4]
u[0:3]
u[-1]
u[::-1]
s[99]
s[99] is defined
l[0]
l[-1]
l[1:]
l[:2]
l[::-1]
l[::2]
l[5:]
l[3]
l[-4]
l.0
nested[1][1][0]
nested.1.1.0
l[-2:]
l[2:0:-1]
l[10::-1]
(1, 2, 3)[1:]
d.a
d["a"]
d.b.c
d['b']['c']
d.missing
d.missing is defined
d["items"]
d.list[1].x
d.get("a")
d.get("zz")
d.get("zz", 5)
d.get("zz", missing) is defined
d.items() | list
d.keys() | list
d.values() | list
d.items() | length
{"k": 1, 2: "two", none: 3, true: 4}
{}
{"a": {"b": []}}
{1: "a", 1.0: "b"}
{"a": 1, "a": 2}
[]
[1, 2.0, "three", none, true, [4], {"five": 6}]
(1, 2)
(1,)
()
["it's", 'say "hi"', "both ' and \"", "a\nb\tc\\", "é中😀", "\x00\x7f"]
1, 2
s | length
u | length
l | length
d | length
e | length
missing | length
l | count
s.upper()
s.lower()
s.title()
"hello wORLD foo-bar it's".title()
"hello wORLD foo-bar it's" | title
u.upper()
u.lower()
"ÀÉÎ ŽĆ".lower()
"straße".upper()
"ǆ ŉ".upper()
u | upper
u | lower
"hELLO wORLD".capitalize()
"éCOLE" | capitalize
"[a(b<c{d-e f" | title
sp.strip()
sp.lstrip()
sp.rstrip()
"xxhixx".strip("x")
"xyhiyx".strip("xy")
"xxhi".lstrip("x")
"hixx".rstrip("x")
sp | trim
"--a--" | trim("-")
"\u3000a\u00a0\x1c" | trim
"ééaé".strip("é")
"a,b,c".split(",")
"a,b,c".split(",", 1)
"a b  c ".split()
" a b c".split(none, 1)
"".split()
"".split(",")
"a--b--c".split("--")
"a,b,c".rsplit(",", 1)
" a b  c ".rsplit(none, 1)
"abc".split("x")
"a,,b".split(",")
"aaa".split("aa")
"aaa".rsplit("aa")
"a b c".split(maxsplit=1)
"a,b".split(sep=",")
"a,b,c".split(",", 0)
"  a  ".split(none, 0)
"a\nb\r\nc\rd\n".splitlines()
"a\nb\n".splitlines(true)
"".splitlines()
"\n".splitlines()
"a\x0bb\x85c\u2028d".splitlines()
s.startswith("Hell")
s.startswith("x")
s.endswith("World")
s.endswith("")
s.startswith(("x", "H"))
s.endswith(("x", "y"))
s.replace("l", "L")
s.replace("l", "L", 1)
s.replace("", "-")
s.replace("o", "")
"aaa".replace("aa", "b")
"ab".replace("", "-", 2)
s | replace("l", "L")
s | replace("l", "L", 1)
5 | replace("5", "6")
"é".replace("", ".")
s.find("o")
s.find("zz")
s.rfind("o")
u.find("中")
s.count("l")
s.count("")
s.count("zz")
",".join(["a", "b"])
"".join([])
"-".join("abc")
"prefix-x".removeprefix("prefix-")
"x.txt".removesuffix(".txt")
"x".removeprefix("y")
"a=b=c".partition("=")
"a=b=c".rpartition("=")
"abc".partition("=")
"abc".rpartition("=")
"  ".isspace()
"".isspace()
"abc".isalpha()
"ab1".isalpha()
"123".isdigit()
"12a".isdigit()
"ab1".isalnum()
"中文".isalpha()
[1, 2, 1].count(1)
[1, 2, 3].index(2)
d.copy() == d
missing | default("x")
nil | default("x")
nil | default("x", true)
e | default("x")
e | default("x", true)
missing | d("y")
d.zz | default(none)
missing | default
missing | default(default_value="k")
missing.foo is defined
l | first
l | last
le | first
s | first
s | last
d | first
le | first is defined
l | list
s | list
d | list
missing | list
l | reverse | list
s | reverse
le | last | string
l | join(",")
l | join
ls | join(" and ")
le | join(",")
[1, none, true, 2.5] | join("|")
"abc" | join("-")
users | join(", ", attribute="name")
missing | join(",")
[[1], "x"] | join
l | sort
l | sort(reverse=true)
ls | sort
ls | sort(case_sensitive=true)
users | sort(attribute="age") | map(attribute="name") | list
users | sort(attribute="name", reverse=true) | map(attribute="name") | join(",")
users | sort(reverse=true, attribute="age") | map(attribute="name") | join(",")
["b", "B", "a"] | sort
d | dictsort | list | length
{"b": 1, "A": 2, "c": 0} | dictsort
{"b": 1, "A": 2, "c": 0} | dictsort(by="value")
{"b": 1, "A": 2} | dictsort(true)
{"b": 1, "a": 2} | dictsort(reverse=true)
l | min
l | max
l | sum
le | sum
users | sum(attribute="age")
users | map(attribute="age") | max
ls | max
ls | min(case_sensitive=true)
le | min
[1.5, 2] | sum
[[1], [2]] | sum(start=[])
[1, 1, 2, 1] | unique | list
["a", "A", "b"] | unique | list
["a", "A"] | unique(true) | list
users | unique(attribute="age") | map(attribute="name") | list
users | map(attribute="name") | list
users | map(attribute="tags.0") | list
users | map(attribute="nope", default="-") | list
ls | map("upper") | list
ls | map("replace", "b", "X") | list
[1.5, "2"] | map("int") | list
le | map("upper") | list
users | selectattr("age", "equalto", 30) | map(attribute="name") | list
users | selectattr("tags") | map(attribute="name") | list
users | rejectattr("age", "eq", 30) | map(attribute="name") | list
users | selectattr("tags", "defined") | list | length
users | rejectattr("tags", "defined") | list | length
users | selectattr("age", ">", 26) | list | length
[0, 1, 2, none] | select | list
[0, 1, 2] | reject | list
[1, 2, 3, 4] | select("odd") | list
[1, 2, 3, 4] | reject("even") | list
["a", 1] | select("string") | list
users | selectattr("name", "in", ["Ann", "Cy"]) | list | length
users | selectattr("name", "ne", "Ann") | list | length
"5" | int
"5.9" | int
"x" | int
"x" | int(9)
" 12 " | int
"1_000" | int
"ff" | int(base=16)
5.9 | int
-5.9 | int
true | int
none | int
"1e3" | int
"-7" | int
"" | int
"5.5" | float
"x" | float
"x" | float(1.5)
5 | float
true | float
"1e5" | float
"nan" | float
" inf " | float
none | float
[] | int
-5 | abs
5.5 | abs
-5.5 | abs
2.5 | round
3.5 | round
2.675 | round(2)
2.4 | round(method="ceil")
2.6 | round(0, "floor")
1234.5 | round(-2)
5 | round
5 | string
none | string
true | string
1.0 | string
[1] | string
-0.4 | round
"<a href='x'>\"&" | escape
"<b>" | e
"<b>" | safe
{"a": 1} | items | list
missing | items | list
"a\nb\n\nc" | indent
"a\nb" | indent(2)
"a\nb" | indent(2, true)
"a\n\nb" | indent(2, blank=true)
"a\nb" | indent(">>")
"" | indent
"a\n" | indent(2)
"\na" | indent(1, first=true)
1 | tojson
"a\"b\\c\n\t\x01/é😀<>&'" | tojson
none | tojson
true | tojson
1.0 | tojson
1e20 | tojson
[1, [2, {"a": none}]] | tojson
d | tojson
{} | tojson
[] | tojson
{"é": 1} | tojson(ensure_ascii=true)
"😀é" | tojson(true)
d | tojson(indent=2)
d | tojson(indent=4, sort_keys=true)
[] | tojson(indent=2)
[1, [], {}] | tojson(indent=1)
d | tojson(separators=(",", ":"))
d | tojson(indent=0)
{"b": 1, "a": {"d": 1, "c": 2}} | tojson(sort_keys=true)
{1: 2, none: 3, true: 4, 2.5: 5} | tojson
(1, 2) | tojson
"\u2028\x7f" | tojson
d | tojson(indent="--")
[1] | tojson(separators=(",", ":"), indent=2)
"\x7f" | tojson(true)
n is defined
missing is defined
missing is undefined
nil is none
n is none
s is string
n is string
d is mapping
l is mapping
l is sequence
s is sequence
d is sequence
n is sequence
l is iterable
s is iterable
n is iterable
d is iterable
nil is iterable
missing is iterable
missing is sequence
n is number
f is number
t is number
s is number
n is integer
t is integer
f is integer
f is float
n is float
t is boolean
n is boolean
t is true
no is false
n is true
1 is true
range is callable
s is callable
3 is odd
4 is even
4 is odd
9 is divisibleby 3
9 is divisibleby(2)
n is eq 7
n is equalto(7)
n is ne 7
n is lt 8
n is gt 8
n is le 7
n is ge 8
1 is in [1, 2]
3 is in l
"x" is in "xyz"
nil is sameas none
t is sameas true
1 is sameas true
"abc" is lower
"ABC" is upper
"aBc" is lower
"12" is lower
n is not defined
n is not none
missing is not defined
n is defined and s is string
not n is defined
n is eq 7 and t
n is not eq 7 or t
[1] is eq [1]
n is eq(7) is defined
n is defined == true
1 + 2 is odd
-1 | abs
(-1) | abs
1 + 2 | string ~ "x"
not n is none
"a" in "abc" and true
1 if n is defined else 2
-2 ** 2
2 * 3 ** 2
"%" ~ 1
10 - 2 ~ 3
n - 1
n -1
range(3) | list
range(1, 4) | list
range(5, 0, -2) | list
range(0) | list
range(3, 1) | list
range(10)[2]
range(4) | length
range(4) | sum
2 in range(3)
dict(a=1, b=2)
dict({"x": 1}, y=2)
namespace(a=1).a
namespace(a=1).b is defined
namespace({"x": 5}).x
missing ~ "x"
missing | string
missing | upper
missing | trim
missing | list
missing | tojson
missing + 1
missing.x
missing["x"]
missing()
missing | int
missing < 1
-missing
nil + 1
"a" + 1
1 + "a"
nil.x
nil.x.y
nil["x"]
n.x
n.x is defined
s.x is defined
l.x is defined
n[0] is defined
1 in 5
n()
s()
"a" < 1
nil < 1
[1] + (2,)
1 / 0
1 % 0
1 // 0
1.0 / 0
l | length + 1
n | length
5 | list
5 | join
d | sort
[1, "a"] | sort
"a" * 2.0
l["a"]
{}["a"]
d[l]
{[1]: 2}
"abc".split("")
"abc".startswith(1)
",".join([1])
range("a")
range(1, 2, 0)
raise_exception("boom " ~ n)
(1).x
l.append(1)
d.update({})
d.pop("a")
'\x41\u00e9\U0001F600\101\n'
"a\qb"
'\''
"\""
'\\'
"\\n"
"\0"
'{{ not a tag }}'
"%}"
"{% raw %}"
"#}"
"Σας ΣΑΣ".upper()
"İ" | length
"\u1e9e".lower()
"ﬁ".upper()
loop is defined
true
True
none
None
false
False
"""

STATEMENTS = [
    "{{ 'a\\\nb' }}",
    "{% if n %}yes{% endif %}", "{% if z %}yes{% else %}no{% endif %}",
    "{% if z %}a{% elif n %}b{% else %}c{% endif %}", "{% if z %}a{% elif z %}b{% elif e %}c{% endif %}",
    "{% for x in l %}{{ x }},{% endfor %}", "{% for x in le %}{{ x }}{% else %}empty{% endfor %}",
    "{% for x in l %}{{ loop.index }}/{{ loop.length }} {{ loop.index0 }} {{ loop.revindex }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.last }};{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }} {% endfor %}", "{% for x in l if x > 9 %}{{ x }}{% else %}none{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }};{% endfor %}",
    "{% for k, v in {'x': 1}.items() %}{{ k ~ v }}{% endfor %}", "{% for (a, b) in [[1, 2], [3, 4]] %}{{ a + b }} {% endfor %}",
    "{% for c in s %}{{ c }}.{% endfor %}", "{% for c in u %}[{{ c }}]{% endfor %}", "{% for x in missing %}x{% else %}none{% endfor %}",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for x in (1, 2) %}{{ x }}{% endfor %}",
    "{% for x in l %}{% for y in ls %}{{ loop.index }}{{ x }}{{ y }} {% endfor %}{{ loop.index }};{% endfor %}",
    "{% for x in l %}{% set o = loop %}{% for y in ls %}{{ o.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}",
    "{% for x in l %}{{ loop.cycle('odd', 'even') }} {% endfor %}", "{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }} {% endfor %}",
    "{% for x in l %}{{ loop.depth }}{% for y in l %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}end",
    "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}end",
    "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ y }}{% endfor %}{{ x }};{% endfor %}",
    "{% for x in n %}{% endfor %}", "{% for a, b in l %}{% endfor %}", "{% for a, b in ['xy', 'zw'] %}{{ b }}{{ a }}{% endfor %}",
    "{% set x = 1 %}{{ x }}", "{% set x, y = 1, 2 %}{{ x }}{{ y }}", "{% set x = 1, 2 %}{{ x }}", "{% set x = l if n else 0 %}{{ x }}",
    "{% set x = 1 %}{% for i in l %}{% set x = i %}{{ x }}{% endfor %}{{ x }}", "{% set x = 1 %}{% if t %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% for i in l %}{{ x }}{% set x = i %}{{ x }};{% endfor %}{{ x }}", "{% set x = 0 %}{% for i in l %}{% set x = x + i %}{{ x }} {% endfor %}",
    "{% set n = 5 %}{{ n }}", "{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(found=false) %}{% for i in l %}{% if i == 1 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }}",
    "{% set ns = namespace() %}{% set ns.a = 'x' %}{{ ns.a }}{{ ns.b is defined }}{{ ns['a'] }}", "{% set ns = namespace(a=1) %}{% set ns.a, q = 2, 3 %}{{ ns.a }}{{ q }}",
    "{% set d.x = 1 %}", "{% set nothing.x = 1 %}", "{% set a, b = [1, 2, 3] %}", "{% set a, b = 5 %}",
    "{% set x %}text {{ n }}{% endset %}[{{ x }}]", "{% set x | upper %}text{% endset %}{{ x }}", "{% set x | trim | replace('a', 'b') %} aa {% endset %}[{{ x }}]",
    "{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ x }}{{ y is defined }}", "{% set x %}{% endset %}{{ x is string }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}banana{% endfilter %}",
    "{% with x = 1, y = n %}{{ x + y }}{% endwith %}{{ x is defined }}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}", "{% set x = 1 %}{% with x = 2, y = x %}{{ x }}{{ y }}{% endwith %}{{ x }}",
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=5, a=4) }} {{ m() }}",
    "{% macro m() %}x{% endmacro %}{{ m() ~ m() | upper }}", "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}{{ m(1) }}",
    "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(3) }}", "{% macro m() %}{{ n }}{{ later }}{% endmacro %}{% set later = 'L' %}{{ m() }}",
    "{% macro f(x) %}{% if x > 0 %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(4) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}",
    "{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}", "{% macro m(x) %}{% set y = x %}{{ y }}{% endmacro %}{{ m(1) }}{{ y is defined }}", "{% for i in l %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro outer() %}{% macro inner(x) %}<{{ x }}>{% endmacro %}{{ inner(1) }}{% endmacro %}{{ outer() }}", "{% macro m() %}a\n{% endmacro %}[{{ m() }}]", "{% macro m(l) %}{% for x in l %}{{ x }}{% endfor %}{% endmacro %}{{ m('ab') }}{{ l }}",
    "{% for i in l %}{% macro m() %}{{ loop is defined }}{% endmacro %}{% endfor %}", "{{ m is defined }}{% macro m() %}{% endmacro %}{{ m is defined }}{{ m is callable }}{{ m.name }}",
    "{% generation %}{{ n }}{% endgeneration %}", "a{% generation %}\n  b\n{% endgeneration %}\nc",
    "{% raw %}{{ x }} {% if %}{% endraw %}", "a {%- raw -%} {{ x }} {%- endraw -%} b", "a\n  {% raw %}\n  x\n  {% endraw %}\nb", "{% raw %}{# #}{% endraw %}",
    "a{# comment #}b", "a {#- comment -#} b", "a\n{# comment #}\nb", "a\n  {# c #}\n  b", "{# multi\nline #}\nx", "a {#+ c +#}\nb", "{##}x", "{#-#} x",
    "a\n{% if t %}\nb\n{% endif %}\nc\n", "a\n  {% if t %}\n  b\n  {% endif %}\n  c", "  {% if t %}x{% endif %}", "\n  {% if t %}x{% endif %}\n", "a  {% if t %}  b  {% endif %}  c",
    "a  {%- if t -%}  b  {%- endif -%}  c", "a\n\n{%- if t -%}\n\nb\n\n{%- endif -%}\n\nc", "a\n  {%+ if t %}b{% endif %}", "{% if t +%}\nb{% endif %}", "a {{- n -}} b", "a {{ n }} b", "a\n  {{ n }}\nb", "a\n {{- n }}\n b", "{{+ n }}",
    "{% if t %}a{% endif %}  {% if t %}b{% endif %}", "{% if t %}\n  {% if t %}\nx{% endif %}{% endif %}", "{{ n }}  {% if t %}x{% endif %}", "{{ n }}\n  {% if t %}x{% endif %}", "\t {% if t %}\n\tx\n\t{% endif %}\n", "x\r\n{% if t %}\r\ny\r\n{% endif %}\rz\r\n",
    "a\n\n", "a\n", "\n", "", "\n\n", "{{ '\n' }}\n", "a\u00a0 {%- if t %}x{% endif %}", "{% if t -%}\u3000 x{% endif %}", "a\n\u00a0{% if t %}x{% endif %}", "{ { n } }", "{", "{ %", "a{", "}} %} #}", "{{ '}}' }}", "{{ {'a': {'b': 1}} }}", "{{ {'a': {'b': 1}}['a'] }}", "{{ [{'a': 1}, {'b': (1, 2)}] }}",
    "{{ n }}{{ s }}", "{{ n if t }}{{ n if no }}", "{{ 1, 2 }}", "{% if l %}{% for x in l %}{% if x %}{{ x }}{% endif %}{% endfor %}{% endif %}", "{% if not missing %}ok{% endif %}", "{% if missing is defined and missing.x %}bad{% else %}ok{% endif %}", "{% if d.b.zz %}x{% endif %}", "{% if d.zz.b %}x{% endif %}",
    "{% if t %}{{ raise_exception('stop') }}{% endif %}", "{% for k, v in d | dictsort %}{{ k }}{% endfor %}", "{% for g in users | map(attribute='name') %}{{ g }}{% endfor %}", "{% for u in users %}{{ u.name }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for m in users[::-1] %}{{ m.name }}{% endfor %}", "{% for m in users[1:] %}{{ loop.index0 }}{{ m['name'] }}{% endfor %}", "{% set users = users[1:] %}{{ users | length }}", "{% set loop_messages = users %}{% for m in loop_messages %}{% if (m.age == 30) != (loop.index0 % 2 == 0) %}{{ m.name }}{% endif %}{% endfor %}",
    "{%set x=1%}{{x}}", "{%-set x=1-%}\n{{x}}", "{{n}}{{-n}}{{n-}}", "{{ n|string|length }}", "{{ (n|string)[0] }}", "{{ users[0].tags[0] }}", "{{ users|length>2 }}", "{{ 'a' if n==7 else'b' }}", "{{ not(n) }}", "{{ l|map('string')|join('+') }}",
    "{{ l is iterable and l is not string and l is not mapping }}", "{% for x in range(3) %}{{ x }}{% endfor %}", "{% for x in range(3)|reverse %}{{ x }}{% endfor %}", "{% set x = 'a' %}{% set x = x ~ 'b' %}{{ x }}", "{% set x = namespace(l=[]) %}{% for i in l %}{% set x.l = x.l + [i * 2] %}{% endfor %}{{ x.l }}",
    "{{ '<think>' in s }}{{ 'a</think>b'.split('</think>')[-1].lstrip('\\n') }}", "{{ 'a</think>b</think>c'.split('</think>', 1)[1] }}", "{{ s.split(', ')[0].upper() ~ '!' }}", "{{ (s ~ '\n') | trim | length }}",
]

ALL = {
    "expressions": ["{{ %s }}" % line for line in EXPRESSIONS.strip().split("\n")],
    "statements": STATEMENTS,
}

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"

# Under tests/data; of a .json the chat_template.
TEMPLATES = [
    "deepseek-v3.1/chat_template.jinja", "deepseek-v3.1/chat_template.tools.jinja",
    "deepseek-v3.1/tokenizer_config.V3.json", "deepseek-v3.1/tokenizer_config.R1-2025-03.json",
    "deepseek-v3.1/tokenizer_config.json", "templates/kimi_like.jinja", "templates/moonlight_like.jinja",
]


def call(name, arguments, **more):
    return dict({"type": "function", "function": {"name": name, "arguments": arguments}}, **more)


USER = {"role": "user", "content": "What is 2+2?"}
TOOLS = [{"type": "function", "function": {
    "name": "add", "description": "Adds numbers: a < b & \"c\" 中",
    "parameters": {"type": "object", "properties": {"a": {"type": "number", "default": 0.1}, "b": {"enum": [1, 2.0, None]}},
                   "required": ["a", "b"], "additionalProperties": False}}}]

CONVERSATIONS = [
    {"messages": [USER]},
    {"messages": [USER], "thinking": True},
    {"messages": [USER], "add_generation_prompt": False},
    {"messages": [{"role": "system", "content": " Be brief. \n"}, USER]},
    {"messages": [{"role": "system", "content": "A"}, {"role": "system", "content": "B"}, USER]},
    {"messages": [USER, {"role": "assistant", "content": "<think>\nsum\n</think>\n\nFour."}, {"role": "user", "content": " 你好 😀 "}]},
    {"messages": [USER, {"role": "assistant", "content": "4"}], "add_generation_prompt": False},
    {"messages": [USER, {"role": "assistant", "content": "4", "prefix": True}], "thinking": True},
    {"messages": [USER], "tools": TOOLS},
    {"messages": [USER], "tools": []},
    {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [call("add", '{"a": 2, "b": 2}', id="c1")]},
                  {"role": "tool", "tool_call_id": "c1", "content": "4"}], "tools": TOOLS},
    {"messages": [USER, {"role": "assistant", "content": "Let me see.", "tool_calls": [
        call("add", '{"a": 1}', id="c1"), call("sub", '{}', id="c2")]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"}, {"role": "tool", "tool_call_id": "c2", "content": "2"},
        {"role": "assistant", "content": "Done."}, {"role": "user", "content": "ok"}]},
    {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [call("add", {"a": 0.1, "b": [True, None]})]}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "url": "x"}]}]},
    {"messages": [{"role": "user", "name": "Ann", "content": "hi"}], "kwargs": {"bot_name": "Bo"}},
    {"messages": [USER, {"role": "assistant", "content": "x", "reasoning_content": " because "}], "add_generation_prompt": False},
    {"messages": [{"role": "assistant", "content": "first"}, USER]},
    {"messages": [{"role": "developer", "content": "D"}, USER]},
    {"messages": [USER, USER]},
    {"messages": [USER, {"role": "assistant", "content": None}]},
    {"messages": []},
]
