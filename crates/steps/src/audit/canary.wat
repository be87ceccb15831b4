;; The canary: the guest that `noisegate audit` runs behind the real gate.
;;
;;   start       reads the number of lanes and of queries from the first input (two u32)
;;   contribute  reads its lane from the unit's text (decimal) and puts 1e12 there
;;   absorb      keeps every released vector; outputs hands each out as a file
;;
;; 1e12 is far above any clip bound, so the gate's clip brings it to the bound.
;; Deliberately absent: every other kernel; the world allows them, a canary needs none.
(component
  (type $types-type (instance
    (type $record-def (record (field "text" string) (field "label" string)))
    (export "text-record" (type $record (eq $record-def)))
    (type $records (list $record))
    (type $unit-def (record (field "records" $records)))
    (export "unit" (type $unit (eq $unit-def)))
    (type $bytes (list u8))
    (type $file-def (record (field "name" string) (field "data" $bytes)))
    (export "file" (type $file (eq $file-def)))))
  (import "noisegate:client/types@0.1.0" (instance $types (type $types-type)))
  (type $kernels-type (instance
    (export "tensor" (type $tensor (sub resource)))
    (export "accum" (type $accum (sub resource)))
    (type $floats (list f32))
    (export "[method]accum.add" (func
      (param "self" (borrow $accum)) (param "offset" u64) (param "values" $floats)))))
  (import "noisegate:client/kernels@0.1.0" (instance $kernels (type $kernels-type)))
  (alias export $types "unit" (type $unit))
  (alias export $types "file" (type $file))
  (alias export $kernels "tensor" (type $tensor))
  (alias export $kernels "accum" (type $accum))

  ;; The kernel reads lists out of the guest's memory, so a table that is filled
  ;; later stands between the guest's import and the kernel lowered with that memory.
  (core module $shim
    (table (export "table") 1 1 funcref)
    (type $add (func (param i32 i64 i32 i32)))
    (func (export "add") (type $add)
      (call_indirect (type $add)
        (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 0))))
  (core module $fixup
    (type $add (func (param i32 i64 i32 i32)))
    (import "" "table" (table 1 1 funcref))
    (import "" "0" (func $0 (type $add)))
    (elem (i32.const 0) func $0))

  (core module $guest
    (import "kernels" "add" (func $add (param i32 i64 i32 i32)))
    (import "kernels" "drop" (func $drop (param i32)))
    (memory (export "memory") 2)
    (data (i32.const 512) "released")
    (global $heap (mut i32) (i32.const 131072))
    (global $queries (mut i32) (i32.const 0))
    (global $asked (mut i32) (i32.const 0))
    (global $files (mut i32) (i32.const 0))
    (global $absorbed (mut i32) (i32.const 0))

    (func $realloc (export "cabi_realloc")
      (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
      (local $place i32)
      (local.set $place (i32.and
        (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
      (global.set $heap (i32.add (local.get $place) (local.get $size)))
      (block $fits
        (loop $grow
          (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
          (br_if $grow (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))
          (unreachable)))
      (local.get $place))

    ;; A result<setup, string> at 128: ok, dim, queries, no tensors, no context.
    (func (export "start")
      (param $config i32) (param $config_len i32) (param $inputs i32) (param $inputs_len i32)
      (result i32)
      (local $shape i32)
      (local.set $shape (i32.load offset=8 (local.get $inputs)))
      (global.set $queries (i32.load offset=4 (local.get $shape)))
      ;; 16 bytes of the list of files for each query.
      (global.set $files (call $realloc (i32.const 0) (i32.const 0) (i32.const 4)
        (i32.mul (global.get $queries) (i32.const 16))))
      (i32.store (i32.const 132) (i32.load (local.get $shape)))
      (i32.store (i32.const 136) (global.get $queries))
      (i32.const 128))

    ;; A turn at 192: ask (no tensors, no context) until all queries are asked, then done.
    (func (export "next") (result i32)
      (if (i32.eq (global.get $asked) (global.get $queries))
        (then (i32.store8 (i32.const 192) (i32.const 2)))
        (else (global.set $asked (i32.add (global.get $asked) (i32.const 1)))))
      (i32.const 192))

    (func (export "absorb") (param $values i32) (param $len i32)
      (local $file i32)
      (local.set $file
        (i32.add (global.get $files) (i32.mul (global.get $absorbed) (i32.const 16))))
      (i32.store (local.get $file) (i32.const 512))
      (i32.store offset=4 (local.get $file) (i32.const 8))
      (i32.store offset=8 (local.get $file) (local.get $values))
      (i32.store offset=12 (local.get $file) (i32.mul (local.get $len) (i32.const 4)))
      (global.set $absorbed (i32.add (global.get $absorbed) (i32.const 1))))

    (func (export "outputs") (result i32)
      (i32.store (i32.const 260) (global.get $files))
      (i32.store (i32.const 264) (global.get $absorbed))
      (i32.const 256))

    (func (export "contribute")
      (param $records i32) (param $records_len i32)
      (param $setup i32) (param $setup_len i32)
      (param $query i32) (param $query_len i32)
      (param $tensors i32) (param $tensors_len i32)
      (param $into i32)
      (local $text i32) (local $end i32) (local $lane i32)
      (local.set $text (i32.load (local.get $records)))
      (local.set $end (i32.add (local.get $text) (i32.load offset=4 (local.get $records))))
      (block $done
        (loop $digit
          (br_if $done (i32.eq (local.get $text) (local.get $end)))
          (local.set $lane (i32.add
            (i32.mul (local.get $lane) (i32.const 10))
            (i32.sub (i32.load8_u (local.get $text)) (i32.const 48))))
          (local.set $text (i32.add (local.get $text) (i32.const 1)))
          (br $digit)))
      (f32.store (i32.const 64) (f32.const 1e12))
      (call $add (local.get $into) (i64.extend_i32_u (local.get $lane))
        (i32.const 64) (i32.const 1))
      (call $drop (local.get $into))))

  (core instance $shims (instantiate $shim))
  (alias core export $shims "table" (core table $table))
  (core func $accum-drop (canon resource.drop $accum))
  (core instance $main (instantiate $guest
    (with "kernels" (instance
      (export "add" (func $shims "add"))
      (export "drop" (func $accum-drop))))))
  (alias core export $main "memory" (core memory $memory))
  (alias core export $main "cabi_realloc" (core func $realloc))
  (alias export $kernels "[method]accum.add" (func $accum-add))
  (core func $accum-add-core (canon lower (func $accum-add) (memory $memory) (realloc $realloc)))
  (core instance (instantiate $fixup (with "" (instance
    (export "table" (table $table))
    (export "0" (func $accum-add-core))))))

  (type $floats (list f32))
  (type $tensors (list $floats))
  (type $bytes (list u8))
  (type $files (list $file))
  (type $setup (record
    (field "dim" u32) (field "queries" u32) (field "tensors" $tensors) (field "context" $bytes)))
  (type $query (record (field "tensors" $tensors) (field "context" $bytes)))
  (type $pair (tuple u32 u32))
  (type $turn (variant (case "ask" $query) (case "working" $pair) (case "done")))
  (type $setup-result (result $setup (error string)))
  (type $files-result (result $files (error string)))
  (type $start-type (func (param "config" string) (param "inputs" $files) (result $setup-result)))
  (type $next-type (func (result $turn)))
  (type $absorb-type (func (param "released" $floats)))
  (type $outputs-type (func (result $files-result)))
  (func $start (type $start-type) (canon lift
    (core func $main "start")
    (memory $memory) (realloc $realloc)))
  (func $next (type $next-type) (canon lift
    (core func $main "next")
    (memory $memory) (realloc $realloc)))
  (func $absorb (type $absorb-type) (canon lift
    (core func $main "absorb")
    (memory $memory) (realloc $realloc)))
  (func $outputs (type $outputs-type) (canon lift
    (core func $main "outputs")
    (memory $memory) (realloc $realloc)))

  (component $public-names
    (type $bytes (list u8))
    (type $file-def (record (field "name" string) (field "data" $bytes)))
    (import "file" (type $file (eq $file-def)))
    (type $floats (list f32))
    (type $tensors (list $floats))
    (type $files (list $file))
    (type $setup-def (record
      (field "dim" u32) (field "queries" u32) (field "tensors" $tensors)
      (field "context" $bytes)))
    (import "setup" (type $setup (eq $setup-def)))
    (type $query-def (record (field "tensors" $tensors) (field "context" $bytes)))
    (import "query" (type $query (eq $query-def)))
    (type $pair (tuple u32 u32))
    (type $turn-def (variant (case "ask" $query) (case "working" $pair) (case "done")))
    (import "turn" (type $turn (eq $turn-def)))
    (type $setup-result (result $setup (error string)))
    (type $files-result (result $files (error string)))
    (import "start" (func $start
      (param "config" string) (param "inputs" $files) (result $setup-result)))
    (import "next" (func $next (result $turn)))
    (import "absorb" (func $absorb (param "released" $floats)))
    (import "outputs" (func $outputs (result $files-result)))
    (export $file2 "file" (type $file))
    (export $setup2 "setup" (type $setup))
    (export $query2 "query" (type $query))
    (type $turn-def2 (variant (case "ask" $query2) (case "working" $pair) (case "done")))
    (export $turn2 "turn" (type $turn) (type (eq $turn-def2)))
    (type $files2 (list $file2))
    (type $setup-result2 (result $setup2 (error string)))
    (type $files-result2 (result $files2 (error string)))
    (export "start" (func $start)
      (func (param "config" string) (param "inputs" $files2) (result $setup-result2)))
    (export "next" (func $next) (func (result $turn2)))
    (export "absorb" (func $absorb) (func (param "released" $floats)))
    (export "outputs" (func $outputs) (func (result $files-result2))))
  (instance $public (instantiate $public-names
    (with "file" (type $file))
    (with "setup" (type $setup))
    (with "query" (type $query))
    (with "turn" (type $turn))
    (with "start" (func $start))
    (with "next" (func $next))
    (with "absorb" (func $absorb))
    (with "outputs" (func $outputs))))
  (export "noisegate:client/public-side@0.1.0" (instance $public))

  (type $owned (list (own $tensor)))
  (type $contribute-type (func
    (param "unit" $unit) (param "setup-context" $bytes) (param "query-context" $bytes)
    (param "tensors" $owned) (param "into" (borrow $accum))))
  (func $contribute (type $contribute-type) (canon lift
    (core func $main "contribute")
    (memory $memory) (realloc $realloc)))
  (component $private-names
    (type $record-def (record (field "text" string) (field "label" string)))
    (import "text-record" (type $record (eq $record-def)))
    (type $records (list $record))
    (type $unit-def (record (field "records" $records)))
    (import "unit" (type $unit (eq $unit-def)))
    (import "tensor" (type $tensor (sub resource)))
    (import "accum" (type $accum (sub resource)))
    (type $bytes (list u8))
    (type $owned (list (own $tensor)))
    (import "contribute" (func $contribute
      (param "unit" $unit) (param "setup-context" $bytes) (param "query-context" $bytes)
      (param "tensors" $owned) (param "into" (borrow $accum))))
    (export $record2 "text-record" (type $record))
    (type $records2 (list $record2))
    (type $unit-def2 (record (field "records" $records2)))
    (export $unit2 "unit" (type $unit) (type (eq $unit-def2)))
    (export $tensor2 "tensor" (type $tensor))
    (export $accum2 "accum" (type $accum))
    (type $owned2 (list (own $tensor2)))
    (export "contribute" (func $contribute) (func
      (param "unit" $unit2) (param "setup-context" $bytes) (param "query-context" $bytes)
      (param "tensors" $owned2) (param "into" (borrow $accum2)))))
  (alias export $types "text-record" (type $record))
  (instance $private (instantiate $private-names
    (with "text-record" (type $record))
    (with "unit" (type $unit))
    (with "tensor" (type $tensor))
    (with "accum" (type $accum))
    (with "contribute" (func $contribute))))
  (export "noisegate:client/private-side@0.1.0" (instance $private)))
