package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// AddFlags gives fs a flag for every key but the secrets.
func AddFlags(fs *pflag.FlagSet) {
	for _, k := range Keys() {
		if k.Flag() == "" {
			continue
		}
		switch d := k.Default.(type) {
		case string:
			fs.String(k.Flag(), d, k.Help)
		case bool:
			fs.Bool(k.Flag(), d, k.Help)
		case int:
			fs.Int(k.Flag(), d, k.Help)
		case []int:
			fs.IntSlice(k.Flag(), d, k.Help)
		case []string:
			fs.StringSlice(k.Flag(), d, k.Help)
		case []Pool:
			fs.String(k.Flag(), "", k.Help)
		}
	}
}

// Load reads the configuration. flags are those of AddFlags and may be nil; file is a
// YAML file that must exist, or empty for DefaultFile, which need not. An error names
// the key in full, where it was set, and the remedy.
func Load(flags *pflag.FlagSet, file string) (*Config, error) {
	keys := Keys()
	if name := unknownEnv(os.Environ(), keys); name != "" {
		return nil, fmt.Errorf("environment variable %s: no such key; remove it or use one of those that `patchbay run --help` lists", name)
	}
	v, err := readFile(file, keys)
	if err != nil {
		return nil, err
	}
	c := &Config{}
	for _, k := range keys {
		v.SetDefault(k.Name, k.Default)
		if err := v.BindEnv(k.Name, k.Env()); err != nil {
			return nil, fmt.Errorf("%s: bind environment: %w", k.Name, err)
		}
		if flags != nil && k.Flag() != "" {
			if err := v.BindPFlag(k.Name, flags.Lookup(k.Flag())); err != nil {
				return nil, fmt.Errorf("%s: bind flag: %w", k.Name, err)
			}
		}
		if err := k.set(c, v.Get(k.Name)); err != nil {
			return nil, err
		}
	}
	return c, c.check()
}

// readFile gives a viper that holds the file and has found only known keys with values
// of the right type in it.
func readFile(file string, keys []Key) (*viper.Viper, error) {
	v := viper.New()
	v.SetConfigFile(file)
	if file == "" {
		v.SetConfigFile(DefaultFile)
	}
	v.SetConfigType("yaml")
	if err := v.ReadInConfig(); err != nil {
		if file == "" && errors.Is(err, fs.ErrNotExist) {
			return v, nil
		}
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	names := v.AllKeys()
	slices.Sort(names) // one file, one error
	for _, name := range names {
		i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
		value := v.Get(name)
		switch {
		case i >= 0:
			if err := keys[i].inFile(value); err != nil {
				return nil, fmt.Errorf("%s: %w", v.ConfigFileUsed(), err)
			}
		case slices.ContainsFunc(keys, func(k Key) bool { return strings.HasPrefix(k.Name, name+".") }):
			if value != nil { // a group with everything in it commented out is fine
				return nil, fmt.Errorf("%s: %s: is a group of keys, not a value; indent its keys below it", v.ConfigFileUsed(), name)
			}
		default:
			return nil, fmt.Errorf("%s: %s: no such key; remove it%s", v.ConfigFileUsed(), name, suggest(name, keys))
		}
	}
	return v, nil
}

// suggest names the key that an unknown one is below, or ends as it does.
func suggest(name string, keys []Key) string {
	last := name[strings.LastIndexByte(name, '.')+1:]
	for _, k := range keys {
		if strings.HasPrefix(name, k.Name+".") {
			return ", or write " + k.Name + k.form()
		}
	}
	for _, k := range keys {
		if last == k.Name[strings.LastIndexByte(k.Name, '.')+1:] {
			return " or write " + k.Name
		}
	}
	return ""
}

// form is how a key's value stands in the file.
func (k Key) form() string {
	switch k.Default.(type) {
	case []int, []string, []Pool:
		return " as a list, one entry a line after a dash"
	}
	return " with a value behind it, not a group"
}

// inFile checks that a value of the file has the key's type as YAML has it.
func (k Key) inFile(value any) error {
	switch k.Default.(type) {
	case string:
		if _, ok := value.(string); !ok && value != nil {
			return k.wrong(value, "is not text; write it in quotes")
		}
	case bool:
		if _, ok := value.(bool); !ok && value != nil {
			return k.wrong(value, "is not true or false")
		}
	case int:
		if _, ok := value.(int); !ok && value != nil {
			return k.wrong(value, "is not a whole number")
		}
	case []int:
		list, ok := value.([]any)
		if !ok && value != nil {
			return k.wrong(value, "is not a list; write [0, 1]")
		}
		for _, e := range list {
			if _, ok := e.(int); !ok {
				return k.wrong(e, "is not a whole number")
			}
		}
	case []string:
		list, ok := value.([]any)
		if !ok && value != nil {
			return k.wrong(value, "is not a list; write [a, b] or one entry a line after a dash")
		}
		for _, e := range list {
			if _, ok := e.(string); !ok {
				return k.wrong(e, "is not text; write it in quotes")
			}
		}
	case []Pool:
		if _, ok := value.(string); ok {
			return k.wrong(value, "is not a list; write one pool after each dash")
		}
	}
	return nil
}

func (k Key) wrong(value any, what string) error {
	if k.secret() {
		return fmt.Errorf("%s: %s", k.Name, what)
	}
	return fmt.Errorf("%s: %v %s", k.Name, value, what)
}

// set checks a value from wherever it came and puts it into the configuration. From the
// environment everything is text, and a list's entries are separated by commas.
func (k Key) set(c *Config, value any) error {
	switch field := k.field(c).(type) {
	case *string:
		s, _ := value.(string)
		var err error
		*field, err = k.text(s)
		return err
	case *Secret:
		s, _ := value.(string)
		*field = Secret(s)
	case *bool:
		switch b := value.(type) {
		case bool:
			*field = b
		case string:
			var err error
			if *field, err = strconv.ParseBool(b); err != nil {
				return fmt.Errorf("%s: %q is not true or false", k.Name, b)
			}
		}
	case *int:
		s := fmt.Sprint(value)
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return fmt.Errorf("%s: %q is not a whole number from 0", k.Name, s)
		}
		if k.check != nil {
			if err := k.check(s); err != nil {
				return fmt.Errorf("%s: %s: %w", k.Name, s, err)
			}
		}
		*field = n
	case *[]int:
		for i, s := range entries(value) {
			if err := k.check(s); err != nil {
				return fmt.Errorf("%s[%d]: %q: %w", k.Name, i, s, err)
			}
			n, _ := strconv.Atoi(s) // checked
			*field = append(*field, n)
		}
	case *[]string:
		for i, s := range entries(value) {
			if err := k.check(s); err != nil {
				return fmt.Errorf("%s[%d]: %q: %w", k.Name, i, s, err)
			}
			*field = append(*field, s)
		}
	case *[]Pool:
		var err error
		if *field, err = pools(value); err != nil {
			return fmt.Errorf("%s%w", k.Name, err)
		}
	}
	return nil
}

// text brings a text into its final form and checks it.
func (k Key) text(s string) (string, error) {
	if k.settle != nil {
		var err error
		if s, err = k.settle(s); err != nil {
			return "", fmt.Errorf("%s: %w", k.Name, err)
		}
	}
	if k.check != nil {
		if err := k.check(s); err != nil {
			return "", fmt.Errorf("%s: %q: %w", k.Name, s, err)
		}
	}
	return s, nil
}

// orHostName takes the host name where a node has no other.
func orHostName(s string) (string, error) {
	if s != "" {
		return s, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("the host name cannot be read (%w); set it", err)
	}
	return strings.ToLower(host), nil
}

// orOff lets a listener be turned off by a word, since an empty variable counts as unset.
func orOff(s string) (string, error) {
	if s == "off" {
		return "", nil
	}
	return s, nil
}

func entries(value any) []string {
	switch v := value.(type) {
	case []string:
		return v
	case []any:
		list := make([]string, len(v))
		for i, e := range v {
			list[i] = fmt.Sprint(e)
		}
		return list
	case []int:
		list := make([]string, len(v))
		for i, n := range v {
			list[i] = strconv.Itoa(n)
		}
		return list
	case string:
		list := strings.Split(v, ",")
		for i, s := range list {
			list[i] = strings.TrimSpace(s)
		}
		return list
	}
	return nil
}
