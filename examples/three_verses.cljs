;; The world runtime's examples in Clojure, as its document has them, against a running server
;; (`cargo xtask worlds`):
;;     nbb --classpath ../clients/babashka three_verses.cljs
;; For Babashka, which is a Clojure, call it three_verses.clj.
(require '[world-runtime :refer [create-world push-down pull-up execute-in-verse execute-in-verses]])

;; One base world, one moment, three verses that run at once.
(let [base (create-world {})
      _ (execute-in-verse (:id base) "import pandas as pd; data = load_universe()")
      {:keys [verse-nash verse-optimal verse-chaos]} (push-down base)
      strategies {verse-nash "selfish" verse-optimal "cooperative" verse-chaos "random"}
      results (execute-in-verses
               (into {} (for [[verse strategy] strategies]
                          [(:world-id verse) (str "strategy = '" strategy "'; evolve()")])))]
  (doseq [verse [verse-nash verse-optimal verse-chaos]]
    (println (:verse verse) (:output (get results (:world-id verse)))))
  (println "base" (:output (execute-in-verse (:id base) "data"))))

;; WEV extraction via WorldRuntime
(defn extract-wev [seed]
  (let [worlds (push-down (create-world {:seed seed}))
        ;; Execute different strategies in parallel
        _ (execute-in-verse (:world-id (:verse-nash worlds))
                            "strategy = 'selfish'")
        _ (execute-in-verse (:world-id (:verse-optimal worlds))
                            "strategy = 'cooperative'")
        ;; Oracle determines outcome
        oracle-result :optimal
        ;; Pull up and extract
        result (pull-up worlds oracle-result)]
    {:wev (:wev result)
     :winner (:winner result)}))

;; 3-agent chromatic walk across verses
(defn chromatic-verse-walk [seed]
  (let [worlds (push-down (create-world {:seed seed}))]
    ;; Generator (+1) in chaos verse
    (execute-in-verse (:world-id (:verse-chaos worlds))
                      "generate_proposals()")
    ;; Coordinator (0) in optimal verse
    (execute-in-verse (:world-id (:verse-optimal worlds))
                      "coordinate_proposals()")
    ;; Validator (-1) in nash verse
    (execute-in-verse (:world-id (:verse-nash worlds))
                      "validate_proposals()")))

(println "winner" (:verse (:winner (extract-wev 1069))))
(println "validated" (:status (chromatic-verse-walk 1069)))
